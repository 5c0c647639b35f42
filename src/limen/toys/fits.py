"""Many estimates judged together: a line through them, and their chi-square."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from limen.toys.outcome import Check

Array = NDArray[np.float64]


def line(x: Array, y: Array, error: Array) -> tuple[Array, Array]:
    """Return intercept and slope (2,) of the line through y ± error at x, and their covariance (2, 2).

    >>> at, covariance = line(np.array([0.0, 1.0]), np.array([1.0, 3.0]), np.array([1.0, 1.0]))
    >>> at.round(12).tolist(), covariance.round(12).tolist()
    ([1.0, 2.0], [[1.0, -1.0], [-1.0, 2.0]])
    """
    weight = 1 / error**2
    design = np.stack([np.ones_like(x), x], axis=1)
    covariance = np.asarray(np.linalg.inv(design.T @ (weight[:, None] * design)), dtype=np.float64)
    return covariance @ (design.T @ (weight * y)), covariance


def pooled(name: str, deviations: Array, note: str = "") -> Check:
    """Return whether independent deviations, in standard errors, are of the size that chance gives them.

    Their χ² on k degrees of freedom, as the normal number ((χ²/k)^⅓ − 1 + 2/9k)/√(2/9k) (Wilson and Hilferty 1931).
    """
    k = len(deviations)
    if k == 0:
        return Check.skip(name, "no estimate has a standard error")
    spread = 2 / (9 * k)
    chi = float(np.square(deviations).sum())
    normal = ((chi / k) ** (1 / 3) - 1 + spread) / math.sqrt(spread)
    said = f"chi-square {chi:.4g} on {k}, as a normal number"
    return Check(name, normal, 0.0, 1.0, note=f"{said}; {note}" if note else said, kind="at most")
