"""Chebyshev polynomials on [−1, 1], a one-dimensional regression: chebyshev-<degree>-<n>."""

from __future__ import annotations

import torch
from pydantic import NonNegativeInt, PositiveInt

from limen.data import Dataset
from limen.errors import InputError

PATTERN = r"chebyshev-(?P<degree>\d+)-(?P<n>[1-9]\d*)"
NAMES = ("chebyshev-3-20", "chebyshev-4-20", "chebyshev-5-20")


def make(*, degree: NonNegativeInt = 5, n: PositiveInt = 20) -> Dataset:
    """Return n points x evenly spaced on [−1, 1] with targets T_degree(x), T_k(cos φ) = cos kφ.

    Inputs and targets have shape (n, 1), float64; the test set is the training set.
    Source: Cohen et al., Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability,
    ICLR 2021.

    Args:
        degree: of the polynomial.
        n: number of points.

    Raises:
        InputError: the degree is so high that rounding would make up the values.
    """
    if degree > 10_000:
        raise InputError(f"chebyshev: expected a degree of at most 10000, got {degree}.")
    x = torch.linspace(-1, 1, n, dtype=torch.float64)[:, None]
    y = torch.cos(degree * torch.acos(x))
    return Dataset(x, y, x, y)
