"""What theory says of log|θ| in the quartic well: Brownian motion with a drift, confined from above by −e^{2x}."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CELL, COARSE = 0.1, 0.5
"""Widths of the cells about the well and below it, of the coarser of the two grids."""

NEAR = -6.0
"""x above which e^{2x} counts and cells are small."""

SPREADS, DECAYS, NEVER = 8.0, 14.0, 60.0
"""How far the grid goes below the depth, in standard deviations of free motion or lengths of decay of e^{2λx/ζ²}; and
lengths of decay to a depth that is never met."""


def beyond(depth: float, times: Sequence[float], exponent: float, variance: float, start: Array) -> Array:
    """Return P(x(t) < −depth) for dx = (λ − e^{2x}) dt + ζ dB at times t (S,) from x(0) = start (P,): (S, P).

    The backward equation u_t = (λ − e^{2x})u' + ½ζ²u'' by finite volumes of second order, as a reversible Markov
    chain, so that time is exact: its generator is similar to a symmetric matrix. Two grids are extrapolated to cells
    of width 0; the error is below 1e-4.

    Args:
        depth: below 0, above 6.
        times: not negative.
        exponent: λ.
        variance: ζ².
        start: x(0); what is above the grid falls to its edge at once.
    """
    if variance == 0 or 2 * exponent * depth / variance > NEVER:
        return np.repeat((start < -depth).astype(float)[None], len(times), axis=0)
    rough, fine = (_on_grid(depth, times, exponent, variance, start, part) for part in (1.0, 0.5))
    out: Array = np.clip((4 * fine - rough) / 3, 0, 1)
    return out


def _on_grid(
    depth: float, times: Sequence[float], exponent: float, variance: float, start: Array, part: float
) -> Array:
    """Return `beyond` on a grid whose cells are `part` of the coarser one's."""
    last = max(times)
    reach = SPREADS * math.sqrt(variance * last) + max(-exponent, 0.0) * last
    if exponent != 0:
        reach = min(reach, DECAYS * variance / (2 * abs(exponent)))
    small, large = part * CELL, part * max(COARSE, reach / 500)
    top = 0.5 * math.log(variance) + 1.6
    edges = np.concatenate(
        [
            -depth - large * np.arange(math.ceil(reach / large) + 1, 0, -1),
            np.linspace(-depth, NEAR, math.ceil((depth + NEAR) / large) + 1)[:-1],
            NEAR + small * np.arange(math.ceil((top - NEAR) / small) + 1),
        ]
    )
    x, width = 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)
    log_mass = (2 * exponent * x - np.exp(2 * x)) / variance  # of the invariant density
    flow, tilt = variance / 2 / np.diff(x), np.diff(log_mass) / 2
    leave = np.zeros_like(x)
    leave[:-1] += flow * np.exp(tilt) / width[:-1]
    leave[1:] += flow * np.exp(-tilt) / width[1:]
    across = flow / np.sqrt(width[1:] * width[:-1])
    rates, modes = np.linalg.eigh(np.diag(-leave) + np.diag(across, 1) + np.diag(across, -1))
    scale = 0.5 * (log_mass + np.log(width))
    scale -= scale[np.abs(x).argmin()]
    begin = modes.T @ np.where(x < -depth, np.exp(scale), 0.0)
    return np.stack(
        [np.interp(start, x, np.exp(-scale) * (modes @ (np.exp(rates * t) * begin))) for t in times]
    )
