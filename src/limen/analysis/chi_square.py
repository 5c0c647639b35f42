"""Quantiles of the chi-square distribution, for the error of random projections."""

from __future__ import annotations

import math


def quantile(probability: float, degrees: int) -> float:
    """Return the value that a chi-square variable of so many degrees of freedom stays below with `probability`.

    Bisection on the series of the regularised incomplete gamma function P(a, x), a = degrees/2 (Abramowitz and
    Stegun 6.5.29), to a relative error of about 1e-12.

    >>> round(quantile(0.95, 2), 6), round(-2 * math.log(0.05), 6)
    (5.991465, 5.991465)
    """
    a = degrees / 2
    low, high = 0.0, a + 10 * math.sqrt(a) + 10
    while _below(a, high) < probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(a, middle) < probability else (low, middle)
    return low + high


def _below(a: float, x: float) -> float:
    """Return P(a, x) = x^a e^-x Σ x^n / Γ(a + 1 + n)."""
    if x <= 0:
        return 0.0
    term, total, n = 1.0, 1.0, 0
    while term > 1e-17 * total:
        n += 1
        term *= x / (a + n)
        total += term
    return math.exp(a * math.log(x) - x - math.lgamma(a + 1)) * total
