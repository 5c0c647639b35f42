"""Symmetric operators: dense, or any function that maps rows to rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from limen.errors import InputError
from limen.types import LinearOperator


class DenseOperator(LinearOperator):
    """A symmetric matrix (n, n) as an operator."""

    def __init__(self, matrix: Tensor) -> None:
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise InputError(f"expected a square matrix, got shape {tuple(matrix.shape)}.")
        self.matrix = matrix
        self.n, self.dtype, self.device = matrix.shape[0], matrix.dtype, matrix.device

    def matmat(self, V: Tensor) -> Tensor:
        """Apply the matrix to each row of `V` (k, n)."""
        return V @ self.matrix.T


class FunctionOperator(LinearOperator):
    """A symmetric operator given by a function on rows, (k, n) to (k, n)."""

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        n: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        self.function, self.n, self.dtype, self.device = function, n, dtype, torch.device(device)

    def matmat(self, V: Tensor) -> Tensor:
        """Apply the function to `V` (k, n)."""
        return self.function(V)


def as_operator(A: LinearOperator | Tensor) -> LinearOperator:
    """Return `A` as an operator; a tensor is a dense symmetric matrix."""
    return DenseOperator(A) if isinstance(A, torch.Tensor) else A
