"""L(w) = ½ wᵀAw: the landscape on which everything has a closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from limen.errors import InputError
from limen.linalg.operators import DenseOperator
from limen.types import Batch, LinearOperator, Need, Objective, Point, State


class Quadratic(Objective):
    """L(w) = ½ wᵀAw with a symmetric matrix A (p, p), started at `w0` (p,)."""

    def __init__(self, A: Tensor, w0: Tensor) -> None:
        self.operator = DenseOperator(A)
        if tuple(w0.shape) != (self.operator.n,):
            raise InputError(f"w0 must have shape ({self.operator.n},), got {tuple(w0.shape)}.")
        self.w0 = w0
        self.dim, self.dtype, self.device = self.operator.n, A.dtype, A.device

    def at(self, state: State, batch: Batch | None = None, need: Need = Need.LOSS) -> Point:
        """Return the point at `state.w` (…, p)."""
        return QuadraticPoint(self, state.w)

    def start(self) -> Tensor:
        """Return a copy of `w0`."""
        return self.w0.clone()


class QuadraticPoint(Point):
    """A point of a `Quadratic`; gradients and losses carry the leading dimensions of w."""

    def __init__(self, objective: Quadratic, w: Tensor) -> None:
        self.objective, self.w, self._operator = objective, w, objective.operator

    @property
    def loss(self) -> Tensor:
        """½ wᵀAw."""
        return 0.5 * (self.w * self.grad).sum(-1)

    @property
    def accuracy(self) -> Tensor:
        """Nan: there is nothing to classify."""
        return torch.full((), torch.nan, dtype=self.w.dtype, device=self.w.device)

    @property
    def grad(self) -> Tensor:
        """Aw."""
        return self.w @ self._operator.matrix

    @property
    def predictions(self) -> Tensor:
        """Return w itself: the identity is the network."""
        return self.w.detach()

    def curvature(self, subset: int | None = None) -> LinearOperator:
        """Return A."""
        return self._operator

    def d3(self, u: Tensor, v: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(u)
