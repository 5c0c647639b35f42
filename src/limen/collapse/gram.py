"""Inner products of a layer's neurons, in float64 whatever the weights are.

Legend: n neurons, d numbers each; V (n, d) has a neuron a row. Norms and distances of rows come from V Vᵀ; in float32
the singular values of a collapsed layer would drown in rounding below 3e-4 of the largest, in float64 below 1e-8.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ROWS = 128
"""Rows of a block: few enough that half of a symmetric product is left out, enough for a fast matrix product."""

COLUMNS = 2048
"""Columns that are converted to float64 at a time: they stay in the cache."""


def gram(V: Tensor) -> Tensor:
    """Return V Vᵀ (n, n) in float64 for the rows of `V` (n, d), of any floating type.

    Memory: n² numbers and n·2048 for the conversion. Cost: half of the 2 n² d operations of the whole product.
    """
    n = len(V)
    G = torch.zeros(n, n, dtype=torch.float64, device=V.device)
    for column in range(0, V.shape[1], COLUMNS):
        part = V[:, column : column + COLUMNS].to(torch.float64)
        for first in range(0, n, ROWS):
            last = min(first + ROWS, n)
            G[first:last, :last].addmm_(part[first:last], part[:last].t())
    lower = G.tril()
    return lower + lower.tril(-1).t()


def rows_of_gram(V: Tensor, G: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
    """Yield V Vᵀ by blocks of rows, (first row, block (b, n)), from `G` where it is known.

    Memory: without `G`, the vectors in float64 and one block.
    """
    double = V.to(torch.float64) if G is None else None
    for first in range(0, len(V), ROWS):
        rows = slice(first, first + ROWS)
        yield first, G[rows] if G is not None else _product(double, rows)


def _product(V: Tensor | None, rows: slice) -> Tensor:
    assert V is not None
    return V[rows] @ V.t()
