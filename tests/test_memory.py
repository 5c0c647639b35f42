"""What a measurement allocates: projections take O(p), however many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from limen.linalg.projection import gaussian_projection, sketch_projection


class Largest(TorchDispatchMode):
    """Note the bytes of the largest storage that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.bytes = max(self.bytes, out.untyped_storage().nbytes())
        return out


def largest(project: Callable[[torch.Tensor, int], torch.Tensor], p: int, rows: int) -> int:
    w = torch.ones(p)
    with Largest() as seen:
        assert project(w, rows).shape == (rows,)
    return seen.bytes


def test_the_ledger_sees_a_dense_projection() -> None:
    assert largest(lambda w, rows: torch.ones(rows, len(w)) @ w, 1000, 50) == 50 * 1000 * 4


@pytest.mark.parametrize(
    ("project", "p", "many"), [(sketch_projection, 1_000_000, 500), (gaussian_projection, 200_000, 100)]
)
def test_projections_take_memory_of_order_p(
    project: Callable[[torch.Tensor, int], torch.Tensor], p: int, many: int
) -> None:
    """The dense map has 4 p bytes a row; a copy of w in float64 takes 8 p, a block of columns 8 MiB."""
    allowed = 8 * max(p, 1 << 20) + 8 * 16
    assert largest(project, p, many) <= allowed
    assert allowed < 4 * p * many / 5
