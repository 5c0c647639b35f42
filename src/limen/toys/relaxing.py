"""How the law of one mode of a linear student relaxes under label noise: a Fokker–Planck equation in log ŝ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

FINE = 0.04
"""Spacing of the grid about ŝ = 1, at most; it grows in proportion to 1 + |log ŝ|."""

COARSE = 2.0
"""Largest spacing."""

MOST = 700
"""Points beyond which the noise is taken to be too small to resolve."""

POWERS = ("log", "log_square", "mean", "square")


@dataclass(frozen=True)
class Moments:
    """Expectations of one mode at several times, each (…, T, n).

    Attributes:
        log: E[log ŝ].
        log_square: E[(log ŝ)²].
        mean: E[ŝ].
        square: E[ŝ²].
    """

    log: Array
    log_square: Array
    mean: Array
    square: Array

    def scatter(self, which: str) -> Array:
        """Return the standard deviation of one ŝ ("mean") or of one log ŝ ("log")."""
        first, second = {"mean": (self.mean, self.square), "log": (self.log, self.log_square)}[which]
        out: Array = np.sqrt(np.maximum(second - first**2, 0))
        return out


def step_moments(x: Tensor, s: Tensor, sigma: float, eta: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return mean m and variance of one step of x = log ŝ, and m', m''.

    A balanced pair of factors has ŝ⁺ = ŝ(1 + η(s − ŝ + σξ))², so with a = 1 + η(s − ŝ) and ε = ησ/a

        m = 2 log a − ε² − 3ε⁴/2 − …,  variance = 4ε² + 10ε⁴ + …
    """
    product = torch.exp(x)
    a = (1 + eta * (s - product)).clamp_min(0.05)
    small = (eta * sigma / a).square()
    mean = 2 * torch.log(a) - small - 1.5 * small**2 - 5 * small**3
    first = -2 * eta * product / a
    return mean, 4 * small + 10 * small**2, first, first


def grid(low: float, high: float, fine: float) -> Array:
    """Return points about 0, one of them 0, whose spacing grows as `fine`·(1 + |x|), up to `COARSE`."""
    sides = []
    for limit in (-low, high):
        points = [0.0]
        while points[-1] < limit:
            points.append(points[-1] + min(fine * (1 + points[-1]), COARSE))
        sides.append(np.array(points))
    return np.concatenate([-sides[0][:0:-1], sides[1]])


def generator(x: Array, s: Tensor, sigma: float, eta: float) -> Tensor:
    """Return the rates a step of a birth–death chain on x (M,) that moves as log ŝ does: (n, M, M), columns sum to 0.

    At each point the chain has the drift and the diffusion of an equation whose solution after one unit of time has the
    mean and the variance of a step, to second order in the step: b = m − (mm' + ½Vm'')/2, D = V(1 − m'). Where the
    spacing is too coarse for both, diffusion is raised.
    """
    points = torch.from_numpy(x)
    m, v, first, second = step_moments(points, s[:, None], sigma, eta)
    drift, diffusion = m - 0.5 * (m * first + 0.5 * v * second), v * (1 - first)
    gap = points.diff()
    below, above = torch.cat([gap[:1], gap]), torch.cat([gap, gap[-1:]])
    up = ((diffusion + drift * below) / (above * (above + below))).clamp_min(0)
    down = ((diffusion - drift * above) / (below * (above + below))).clamp_min(0)
    # where one was negative the other carries the drift alone
    up, down = (
        torch.where(down == 0, torch.maximum(up, drift / above), up),
        torch.where(up == 0, torch.maximum(down, -drift / below), down),
    )
    up[:, -1] = 0
    down[:, 0] = 0
    out = torch.diag_embed(up[:, :-1], -1) + torch.diag_embed(down[:, 1:], 1)
    return out - torch.diag_embed(up + down)


def relax(
    s: Array,
    sigma: float,
    eta: float,
    drop: float,
    drop_at: int,
    steps: Sequence[int],
    branches: Sequence[int] = (),
    tail: int = 0,
) -> tuple[Moments, Moments] | None:
    """Return the moments at `steps` (T, n) from ŝ = 1, and `tail` small steps after each of `branches` (F, n).

    Args:
        s: targets (n,).
        sigma: label noise, positive.
        eta: learning rate over N.
        drop: its factor from `drop_at` on, and along the tails.
        drop_at: when it drops.
        steps: increasing, from 0.
        branches: steps before the drop at which a tail begins.
        tail: its length.

    Returns:
        None where the noise is too small for the grid.
    """
    width = sigma * math.sqrt(eta * drop / float(s.max()))  # of log ŝ at rest, after the drop
    low = min(float(s.min()) * 2 * eta - eta**2 * sigma**2, 0.0) * drop_at
    low = min(low - 7 * 2 * eta * sigma * math.sqrt(drop_at), -6.0)
    low = max(
        low,
        -8.0
        - math.log1p(eta * drop_at)
        - eta**2 * sigma**2 * drop_at
        - 14 * eta * sigma * math.sqrt(drop_at),
    )
    high = math.log(float(s.max()) + 1 + 25 * eta * sigma**2)
    fine = min(FINE, 0.5 * width)
    if fine * MOST < 3:
        return None
    x = grid(low, high, fine)
    if len(x) > MOST:
        return None
    targets = torch.from_numpy(s)
    powers = {}

    def travel(state: Tensor, gap: int, rate: float) -> Tensor:
        if gap == 0:
            return state
        if (gap, rate) not in powers:
            powers[gap, rate] = torch.linalg.matrix_exp(gap * generator(x, targets, sigma, rate))
        out: Tensor = powers[gap, rate] @ state
        return out

    state = torch.zeros(len(s), len(x), 1, dtype=torch.float64)
    state[:, int(np.abs(x).argmin())] = 1
    wanted, branched = set(steps), set(branches)
    kept, begun, now = [], [], 0
    for step in sorted(wanted | branched | {drop_at}):
        state = travel(state, step - now, eta if step <= drop_at else eta * drop)
        now = step
        if step in wanted:
            kept.append(state)
        if step in branched:
            begun.append(state)
    ends = torch.cat(begun, dim=-1) if begun else state[..., :0]
    if begun:
        gap = max(1, min(tail, max(1, math.gcd(tail, steps[1] - steps[0]) if len(steps) > 1 else tail)))
        for _ in range(tail // gap):
            ends = travel(ends, gap, eta * drop)
    return _moments(torch.cat(kept, dim=-1), x), _moments(ends, x)


def _moments(law: Tensor, x: Array) -> Moments:
    """Return the moments of laws (n, M, T)."""
    points = torch.from_numpy(x)
    values = torch.stack([points, points**2, points.exp(), (2 * points).exp()])
    found = torch.einsum("km,nmt->ktn", values, law)
    return Moments(*(one.numpy() for one in found))
