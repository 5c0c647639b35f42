"""Random projections of the iterates in O(p) memory."""

from __future__ import annotations

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
