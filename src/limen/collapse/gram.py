"""Inner products of a layer's neurons.

Legend: n neurons; a neuron is a row of each of several matrices (n, d_k) side by side, d numbers in all.

Float32 weights are multiplied in float32, at twice the speed of float64. What the rounding cannot decide is computed
again: an inner product is off by at most d·6e-8·‖a‖‖b‖, so that few pairs are in doubt about being identical
(`counts`); and where many singular values drown in rounding, the whole product is made in float64 (`rank`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

Parts = Sequence[Tensor]
"""Matrices (n, d_k) whose rows, side by side, are the neurons."""

ROWS = 128
"""Rows of a block: few enough that half of a symmetric product is left out, enough for a fast matrix product."""

COLUMNS = 2048
"""Columns that are converted to another type at a time: they stay in the cache."""


def gram(parts: Parts, dtype: torch.dtype | None = None) -> Tensor:
    """Return V Vᵀ (n, n) for V the parts side by side, computed in `dtype` (default: as `working` says).

    Memory: n² numbers and n·2048 for a conversion. Cost: half of the 2 n² d operations of the whole product.
    """
    n, dtype = len(parts[0]), dtype or working(parts)
    G = torch.zeros(n, n, dtype=dtype, device=parts[0].device)
    for part in _pieces(parts, dtype):
        for first in range(0, n, ROWS):
            last = min(first + ROWS, n)
            G[first:last, :last].addmm_(part[first:last], part[:last].t())
    lower = G.tril()
    return lower + lower.tril(-1).t()


def working(parts: Parts) -> torch.dtype:
    """Return float64 if any part is, else float32."""
    return torch.float64 if any(part.dtype == torch.float64 for part in parts) else torch.float32


def squares(parts: Parts) -> Tensor:
    """Return the squared norms of the rows (n,) in float64, on the CPU."""
    n = len(parts[0])
    total = torch.zeros(n, dtype=torch.float64)
    for part in parts:
        for first in range(0, n, 16):  # converted in the cache
            rows = slice(first, first + 16)
            total[rows] += part[rows].to(torch.float64).square().sum(1).cpu()
    return total


def exact(parts: Parts, first: Tensor, second: Tensor) -> Tensor:
    """Return the inner products in float64 of rows `first` (m,) with rows `second` (m,)."""
    total = torch.zeros(len(first), dtype=torch.float64, device=parts[0].device)
    for start in range(0, len(first), ROWS):
        some = slice(start, start + ROWS)
        for part in parts:
            a, b = part[first[some]].to(torch.float64), part[second[some]].to(torch.float64)
            total[some] += (a * b).sum(1)
    return total


def row_blocks(parts: Parts) -> Iterator[tuple[int, Tensor]]:
    """Yield V Vᵀ in float64 by blocks of rows, (first row, block (b, n)); memory: one block and a conversion."""
    n = len(parts[0])
    for first in range(0, n, ROWS):
        block = torch.zeros(min(ROWS, n - first), n, dtype=torch.float64, device=parts[0].device)
        for part in _pieces(parts, torch.float64):
            block.addmm_(part[first : first + ROWS], part.t())
        yield first, block


def _pieces(parts: Parts, dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield the parts in `dtype`, by columns where they must be converted."""
    for part in parts:
        if part.dtype == dtype:
            yield part
        else:
            for column in range(0, part.shape[1], COLUMNS):
                yield part[:, column : column + COLUMNS].to(dtype)
