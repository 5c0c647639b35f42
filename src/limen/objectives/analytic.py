"""Landscapes known in closed form: small systems whose theory is known, batched over trajectories.

Shapes: `(…, p)` marks trajectories in any number of leading dimensions, k noises, N examples.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from limen.errors import InputError
from limen.linalg.operators import DenseOperator
from limen.types import Batch, LinearOperator, Need, Objective, Point, State


class Analytic(Objective):
    """A landscape L(w) on R^p with a gradient in closed form, started at zero.

    Attributes:
        parameters: the numbers that identify it (JSON-able).
    """

    parameters: dict[str, Any]

    def __init__(self, dim: int, dtype: torch.dtype = torch.float64) -> None:
        self.dim, self.dtype, self.device = dim, dtype, torch.device("cpu")
        self.parameters = {}

    @abstractmethod
    def value(self, w: Tensor) -> Tensor:
        """Return L(w), differentiable: (…, p) to (…)."""

    @abstractmethod
    def gradient(self, w: Tensor) -> Tensor:
        """Return ∇L(w) (…, p)."""

    def hessian(self, w: Tensor) -> Tensor:
        """Return ∇²L(w), symmetric (p, p), at one w (p,)."""
        with torch.enable_grad():
            leaf = w.detach().clone().requires_grad_()
            (first,) = torch.autograd.grad(self.value(leaf), leaf, create_graph=True)
            rows = [
                torch.autograd.grad(g, leaf, retain_graph=True, materialize_grads=True)[0]
                for g in (first if first.requires_grad else [])
            ]
        matrix = torch.stack(rows) if rows else torch.zeros(len(w), len(w), dtype=w.dtype, device=w.device)
        return 0.5 * (matrix + matrix.T)

    def predict(self, w: Tensor) -> Tensor:
        """Return what the model says; w itself where there is none."""
        return w

    def at(self, state: State, batch: Batch | None = None, need: Need = Need.LOSS) -> Point:
        """Return the point at `state.w` (…, p)."""
        return AnalyticPoint(self, state.w)

    def start(self) -> Tensor:
        """Return the origin (p,)."""
        return torch.zeros(self.dim, dtype=self.dtype, device=self.device)

    def describe(self) -> dict[str, Any]:
        """Return its name and parameters."""
        return super().describe() | self.parameters


class AnalyticPoint(Point):
    """A point of an `Analytic` landscape; loss and gradient carry the leading dimensions of w, curvature has none."""

    def __init__(self, objective: Analytic, w: Tensor) -> None:
        self.objective: Analytic = objective
        self.w = w

    @property
    def loss(self) -> Tensor:
        """L(w)."""
        return self.objective.value(self.w)

    @property
    def accuracy(self) -> Tensor:
        """Nan: there is nothing to classify."""
        return torch.full((), torch.nan, dtype=self.w.dtype, device=self.w.device)

    @property
    def grad(self) -> Tensor:
        """∇L(w)."""
        return self.objective.gradient(self.w)

    @property
    def predictions(self) -> Tensor:
        """What the model says."""
        return self.objective.predict(self.w).detach()

    def curvature(self, subset: int | None = None) -> LinearOperator:
        """Return the Hessian of all the data as a dense matrix (p, p)."""
        return DenseOperator(self.objective.hessian(self._one()))

    def d3(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the gradient of u'Hv in w (p,)."""
        with torch.enable_grad():
            w = self._one().requires_grad_()
            (first,) = torch.autograd.grad(self.objective.value(w), w, create_graph=True)
            (second,) = torch.autograd.grad(first @ u, w, create_graph=True)
            if not second.requires_grad:  # a quadratic
                return torch.zeros_like(u)
            (third,) = torch.autograd.grad(second @ v, w, materialize_grads=True)
        return third

    def _one(self) -> Tensor:
        if self.w.ndim != 1:
            raise InputError(
                f"curvature is that of one vector of parameters (p,), got shape {tuple(self.w.shape)}; "
                "take the point of one trajectory."
            )
        return self.w.detach().clone()


class Diffusing(Analytic):
    """A landscape that noise drives: dw = −∇L(w) dt + G(w) dB, G (p, k), in the sense of Itô.

    Attributes:
        noises: k, the number of independent Brownian motions of a trajectory.
    """

    noises: int

    @abstractmethod
    def diffuse(self, w: Tensor, xi: Tensor) -> Tensor:
        """Return G(w)ξ: w (…, p), ξ (…, k) to (…, p)."""

    def euler_(self, w: Tensor, xi: Tensor, h: float) -> None:
        """Take one Euler–Maruyama step in place: w ← w − h∇L(w) + √h G(w)ξ, ξ standard normal (…, k).

        This is what every simulation of such a system calls. ξ may be overwritten.
        """
        w += self.diffuse(w, xi).mul_(math.sqrt(h)).sub_(self.gradient(w), alpha=h)


class Regression(Analytic):
    """Squares over N examples: L(w) = ‖f(w) − y‖² / 2N, with targets y (N,), or N in other words of the same space.

    Attributes:
        targets: y, of the size of f.
        count: what the sum of squares is divided by, twice.
    """

    targets: Tensor
    count: int

    @abstractmethod
    def pull(self, w: Tensor, e: Tensor) -> Tensor:
        """Return Jᵀe / N, J the derivative of f at w: (…, p), (…, n) to (…, p)."""

    def value(self, w: Tensor) -> Tensor:
        """Return ‖f(w) − y‖² / 2N."""
        return (self.predict(w) - self.targets).square().sum(-1) / (2 * self.count)

    def gradient(self, w: Tensor, shift: Tensor | float = 0.0) -> Tensor:
        """Return Jᵀ(f(w) − y − shift) / N: the gradient with labels moved by `shift` (…, n)."""
        return self.pull(w, self.predict(w) - self.targets - shift)
