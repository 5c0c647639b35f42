"""What theory says of log|θ| where θ is small: Brownian motion with a drift, below a wall."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]

REACH, POINTS = 9.0, 4_000
"""Half-width in standard deviations, and number, of the points of a quadrature over a normal number."""


def euler_exponent(drift: float, noise: float, h: float) -> tuple[float, float]:
    """Return mean and variance of log|θ| per unit of time for θ⁺ = θ(1 + h·drift + √h·noise·ξ), ξ standard normal.

    As h → 0 they are drift − noise²/2 and noise². By the midpoint rule, to about 1e-7.

    >>> [round(x, 3) for x in euler_exponent(1.5, 1.0, 1e-4)]
    [1.0, 1.0]
    """
    xi, weight = _normal()
    logs = np.log(np.abs(1 + h * drift + math.sqrt(h) * noise * xi))
    mean = float(weight @ logs)
    return mean / h, float(weight @ (logs - mean) ** 2) / h


@functools.cache
def _normal() -> tuple[Array, Array]:
    """Return points and weights of the midpoint rule over a standard normal number."""
    edges = np.linspace(-REACH, REACH, POINTS + 1)
    xi = 0.5 * (edges[1:] + edges[:-1])
    weight = np.exp(-0.5 * xi**2)
    return xi, weight / weight.sum()


def reflected_beyond(depth: Array, t: float, drift: float, variance: float, start: Array) -> Array:
    """Return P(D(t) > depth) for Brownian motion D ≥ 0 reflected at 0, from D(0) = start (Harrison 1985, section 1.8).

    Args:
        depth: how far from the wall, at least 0; broadcasts with start.
        t: time, positive.
        drift: away from the wall.
        variance: per unit of time, positive.
        start: distance from the wall at time 0, at least 0.
    """
    spread = math.sqrt(variance * t)
    first = torch.special.ndtr(torch.from_numpy(np.asarray((depth - start - drift * t) / spread)))
    log_second = torch.special.log_ndtr(torch.from_numpy(np.asarray((-depth - start - drift * t) / spread)))
    second = torch.exp(log_second + torch.from_numpy(np.asarray(2 * drift * depth / variance)))
    beyond: Array = (1 - first + second).clamp(0, 1).numpy()
    return beyond


def quartic_wall(exponent: float, variance: float) -> float:
    """Return where a reflecting wall stands in for the confinement −e^{2x} of x = log|θ| in the quartic well.

    At the wall the reflected motion has the mass of the true invariant density e^{(2λx − e^{2x})/ζ²}:
    e^{2λw/ζ²} = Γ(1 + λ/ζ²) ζ^{2λ/ζ²}, so w = log ζ + ζ²/(2λ) log Γ(1 + λ/ζ²), and log ζ − γ/2 at λ = 0. For
    λ ≤ −ζ²/2, where the wall no longer matters, the value there is returned.
    """
    ratio = max(exponent / variance, -0.5)
    if abs(ratio) < 1e-6:
        return 0.5 * math.log(variance) - 0.5 * 0.5772156649015329
    return 0.5 * math.log(variance) + math.lgamma(1 + ratio) / (2 * ratio)
