"""Standard normal numbers in blocks, from one stream a (seed, name, index): the same whoever asks, and fast.

Torch draws float64 normals at some 30 ns each on one CPU core; PCG64 with the Box–Muller transform in vectorised
arithmetic takes a quarter of that, and half of that again in float32.
"""

from __future__ import annotations

import hashlib
import math
import threading

import numpy as np
import torch
from torch import Tensor

PIECE = 1 << 13
"""Words asked of the generator at once: the array that it returns stays in cache."""


class Normals:
    """A stream of standard normal numbers, a function of (seed, name, index) alone.

    Tails reach 8.6 standard deviations in float64 (53 random bits) and 6.7 in float32 (31 and rounding to centre).

    Examples:
        >>> torch.equal(Normals(0, "here", 3).draw((2, 4)), Normals(0, "here", 3).draw((2, 4)))
        True
    """

    def __init__(self, seed: int, name: str, index: int = 0, dtype: torch.dtype = torch.float64) -> None:
        digest = hashlib.sha256(f"{seed}/{name}/{index}".encode()).digest()
        self.bits = np.random.PCG64DXSM(int.from_bytes(digest[:16], "little"))
        self.uniform = np.random.Generator(self.bits)
        self.dtype = dtype

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """Return new numbers of this shape."""
        return self.fill(torch.empty(shape, dtype=self.dtype))

    def fill(self, out: Tensor) -> Tensor:
        """Overwrite `out`, contiguous and of the stream's dtype, with new numbers and return it."""
        n = out.numel()
        half = (n + 1) // 2
        radius, angle = self._single(half) if self.dtype == torch.float32 else self._double(half)
        radius.log_().mul_(-2).sqrt_()
        flat = out.view(-1)
        first, second = flat[:half], flat[half:]
        torch.cos(angle, out=first).mul_(radius)
        torch.sin(angle[: n - half], out=second).mul_(radius[: n - half])
        return out

    def _double(self, half: int) -> tuple[Tensor, Tensor]:
        """Return uniform numbers in (0, 1] and angles in [0, 2π)."""
        uniform = _scratch("uniform", 2 * half, torch.float64)
        self.uniform.random(out=uniform.numpy())
        return uniform[:half].neg_().add_(1), uniform[half:].mul_(2 * math.pi)

    def _single(self, half: int) -> tuple[Tensor, Tensor]:
        """Return uniform numbers in (0, 1] and angles in [−π, π), 32 random bits each: float32 is finest near 0."""
        words, uniform = (
            _scratch("words", 2 * half, torch.int32),
            _scratch("uniform", 2 * half, torch.float32),
        )
        pairs = words.numpy().view(np.uint64)
        for begin in range(0, half, PIECE):
            pairs[begin : begin + PIECE] = self.bits.random_raw(min(PIECE, half - begin))
        words[:half].bitwise_and_(0x7FFFFFFF)
        uniform.copy_(words)
        return uniform[:half].add_(0.5).mul_(2.0**-31), uniform[half:].mul_(math.pi * 2.0**-31)


class _Held(threading.local):
    """Memory of one thread, by use."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, torch.dtype], Tensor] = {}


_held = _Held()


def _scratch(name: str, size: int, dtype: torch.dtype) -> Tensor:
    """Return memory of this thread, kept from call to call: fresh pages would cost as much as the numbers."""
    found = _held.kept.get((name, dtype))
    if found is None or len(found) < size:
        found = _held.kept[name, dtype] = torch.empty(size, dtype=dtype)
    return found[:size]
