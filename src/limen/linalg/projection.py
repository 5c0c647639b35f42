"""Random projections of the iterates in O(p) memory.

Two linear maps from p parameters to a few numbers, each the same for every run of one size. The published Gaussian
map is unnormalised: E‖Pw‖² = rows · ‖w‖². The sketch keeps norms: E‖Sw‖² = ‖w‖².
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MULTIPLE = 16
"""PyTorch draws normals on the CPU 16 at a time: blocks of a multiple of it continue one stream."""


def gaussian_projection(w: Tensor, rows: int, *, seed: int = 7, block: int = 1 << 20) -> Tensor:
    """Return P w for the published P = randn(rows, p) after `torch.manual_seed(seed)`: float32, unnormalised.

    P is drawn as one flat stream, block by block, and never held whole.

    Args:
        w: flat parameters (p,).
        rows: number of projections.
        seed: of P.
        block: numbers drawn at a time; rounded to a multiple of 16, and the last block takes the remainder.

    Returns:
        (rows,) in the dtype and on the device of `w`.
    """
    p = w.numel()
    generator = torch.Generator().manual_seed(seed)
    total, done = rows * p, 0
    block = max(MULTIPLE, block // MULTIPLE * MULTIPLE)
    out = torch.zeros(rows, dtype=torch.float64)
    w64 = w.detach().to("cpu", torch.float64)
    while done < total:
        left = total - done
        take = left if left < block + MULTIPLE else block
        numbers = torch.randn(take, generator=generator, dtype=torch.float32)
        _accumulate(out, numbers, w64, done)
        done += take
    return out.to(w.device, w.dtype)


def _accumulate(out: Tensor, numbers: Tensor, w: Tensor, offset: int) -> None:
    """Add the products of a run of the flat stream, starting at `offset`, with the parameters it meets."""
    p, at = w.numel(), 0
    while at < len(numbers):
        row, column = divmod(offset + at, p)
        if column == 0 and len(numbers) - at >= p:
            whole = (len(numbers) - at) // p
            out[row : row + whole] += numbers[at : at + whole * p].view(whole, p).double() @ w
            at += whole * p
        else:
            take = min(p - column, len(numbers) - at)
            out[row] += numbers[at : at + take].double() @ w[column : column + take]
            at += take


NONZEROS = 4
"""Entries of each column of the sketch: a few are enough for the concentration of a dense map."""

COLUMNS = 1 << 18
"""Columns of S drawn at a time, each block from a seed of its own."""


def sketch_projection(w: Tensor, rows: int, *, seed: int = 7) -> Tensor:
    """Return S w for a sparse sign matrix S (rows, p): in each column `s` entries ±1/√s at random rows.

    E‖Sw‖² = ‖w‖², and the relative error of ‖Sw‖² has standard deviation about √(2/rows), like a dense Gaussian
    map's; see `sketch_error`. Costs O(p) time and memory whatever `rows` is. Rows are drawn with replacement, so
    that the map stays linear in w and norms stay unbiased. Source: Kane & Nelson, *Sparser Johnson-Lindenstrauss
    transforms*, J. ACM 61 (2014).

    Args:
        w: flat parameters (p,).
        rows: number of projections.
        seed: of S.

    Returns:
        (rows,) in the dtype and on the device of `w`.
    """
    out = torch.zeros(rows, dtype=torch.float64)
    values = w.detach().to("cpu", torch.float64)
    for number, piece in enumerate(torch.split(values, COLUMNS)):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        at = torch.randint(rows, (NONZEROS, len(piece)), generator=generator)
        signs = torch.randint(2, (NONZEROS, len(piece)), generator=generator) * 2 - 1
        out += torch.bincount(at.flatten(), weights=(signs * piece).flatten(), minlength=rows)
    return (out / math.sqrt(NONZEROS)).to(w.device, w.dtype)


def sketch_error(rows: int) -> float:
    """Return the standard deviation of ‖Sw‖/‖w‖ for either normalised map: about 1/√(2 rows).

    >>> round(sketch_error(500), 3)
    0.032
    """
    return 1 / math.sqrt(2 * rows)
