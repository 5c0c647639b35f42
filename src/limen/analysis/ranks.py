"""Rank correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from limen.analysis.readable import Array


def ranks(values: ArrayLike) -> Array:
    """Return the ranks from 1 (n,), the same mean rank for equal values.

    >>> ranks([10, 30, 10, 20]).tolist()
    [1.5, 4.0, 1.5, 3.0]
    """
    x = np.asarray(values, dtype=np.float64)
    _, which, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Array = (last - (counts - 1) / 2)[which.reshape(-1)]
    return mean


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Return Spearman's ρ, the correlation of the ranks of x and y (n,); nan where one of them is constant.

    >>> spearman([1, 2, 3, 4], [2, 3, 9, 11])
    1.0
    """
    a, b = ranks(x), ranks(y)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else float("nan")
