"""Many trajectories of one stochastic equation, all noise levels as one tensor.

Shapes: L noise levels, P paths a level, p parameters, k noises, S snapshots.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from limen.objectives.analytic import Diffusing
from limen.toys.normals import Normals
from limen.toys.parallel import Tell, silent, spread

TOGETHER = 32_000
"""Paths of all levels that advance as one tensor in float64, about; in float32 twice as many take the same memory."""

BLOCK = 1 << 18
"""Bytes of normal numbers drawn at once for one level."""


def follow(
    system: Callable[[Tensor], Diffusing],
    levels: Tensor,
    start: Callable[[int], Tensor],
    h: float,
    snapshots: Sequence[int],
    *,
    seed: int,
    name: str,
    threads: int | None = None,
    together: int = TOGETHER,
    group: int | None = None,
    tell: Tell = silent,
) -> Tensor:
    """Return the state of every path at the steps `snapshots`: (S, L, P, p).

    The noise of a level is a function of (seed, name, the level's place in `levels`); neither threads nor groups
    change a result.

    Args:
        system: the equation, given noise levels shaped to broadcast with w (l, P, p), that is (l, 1, 1).
        levels: the noise (L,), in the precision of the simulation.
        start: initial parameters (P, p) of one level, by its place.
        h: time step.
        snapshots: steps to look at, increasing; 0 is the start.
        seed: of all draws.
        name: of the stream of noise.
        threads: how many groups at once (all cores if None).
        together: paths that advance as one tensor, about: its intermediate results must stay in a core's cache.
        group: levels that advance as one tensor, in place of `together`.
        tell: hears of progress.
    """
    if group is None:
        most = max(1, together * 8 // levels.element_size() // len(start(0)))
        group = math.ceil(len(levels) / math.ceil(len(levels) / most))  # as even as that allows
    starts = range(0, len(levels), group)
    weight = 1 / len(starts)

    def work(first: int) -> Tensor:
        chosen = range(first, min(first + group, len(levels)))
        part = system(levels[first : first + group, None, None])
        streams = [Normals(seed, name, level, levels.dtype) for level in chosen]
        w0 = torch.stack([start(level) for level in chosen]).to(levels.dtype)
        return advance(part, w0, h, snapshots, streams, lambda fraction: tell(weight * fraction))

    return torch.cat(spread(work, list(starts), threads, flush=levels.dtype == torch.float32), dim=1)


def advance(
    system: Diffusing,
    w0: Tensor,
    h: float,
    snapshots: Sequence[int],
    streams: Sequence[Normals],
    tell: Tell = silent,
) -> Tensor:
    """Return the state at the steps `snapshots` (S, L, P, p) from w0 (L, P, p), with one stream of noise a level."""
    count, paths = w0.shape[:2]
    # each parameter contiguous, whatever the system does with one of them
    w = w0.movedim(-1, 0).contiguous().movedim(0, -1)
    steps = max(1, BLOCK // (paths * system.noises * w0.element_size()))
    noise = torch.empty(count, steps, system.noises, paths, dtype=w0.dtype)
    each = noise.transpose(2, 3).unbind(1)  # views, made once: (L, P, k) a step
    wanted, last = set(snapshots), max(snapshots)
    kept = [w.clone()] if 0 in wanted else []
    for step in range(last):
        place = step % steps
        if place == 0:
            for stream, block in zip(streams, noise, strict=True):
                stream.fill(block)
            if step:
                tell(steps / last)
        system.euler_(w, each[place], h)
        if step + 1 in wanted:
            kept.append(w.clone())
    tell(((last - 1) % steps + 1) / last if last else 1.0)
    return torch.stack(kept)
