"""What points on data share: values found by one pass over the examples, and the derivative of a kept gradient."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from limen.types import Need, Point


class EvaluatedPoint(Point):
    """A point whose values come from passes over n examples: who asks first pays, everyone after reads.

    Attributes:
        n: examples.
        need: what was declared before.
    """

    n: int
    need: Need
    _known = Need.NOTHING
    _loss: Tensor
    _hits: Tensor
    _grad: Tensor
    _predictions: Tensor

    @property
    def loss(self) -> Tensor:
        """The mean loss, 0-dim."""
        self._have(Need.LOSS)
        return self._loss

    @property
    def accuracy(self) -> Tensor:
        """Fraction of examples classified correctly, 0-dim; nan where that is undefined."""
        self._have(Need.LOSS)
        return self._hits / self.n

    @property
    def grad(self) -> Tensor:
        """The gradient of the mean loss (p,)."""
        self._have(Need.GRAD)
        return self._grad

    @property
    def predictions(self) -> Tensor:
        """The network's outputs on the data (n, …); of this process's share where several split a batch."""
        self._have(Need.PREDICTIONS)
        return self._predictions

    def _have(self, need: Need) -> None:
        if need not in self._known:
            self._evaluate(self.need | need | Need.LOSS)

    @abstractmethod
    def _evaluate(self, need: Need) -> None:
        """Make one pass over the data for all that was declared and is now asked."""


class GradientGraph(Protocol):
    """A gradient with its graph, and the parameters it was taken in."""

    @property
    def leaves(self) -> list[Tensor]:
        """One tensor a parameter."""

    @property
    def grads(self) -> tuple[Tensor, ...]:
        """Likewise."""


def products(made: GradientGraph, vs: list[Tensor], *, create_graph: bool = False) -> tuple[Tensor, ...]:
    """Return the derivative of g·v in the leaves; gradients that are constant contribute nothing."""
    curved = [(g, v) for g, v in zip(made.grads, vs, strict=True) if g.requires_grad]
    if not curved:
        return tuple(torch.zeros_like(x) for x in made.leaves)
    return torch.autograd.grad(
        [g for g, _ in curved],
        made.leaves,
        grad_outputs=[v for _, v in curved],
        retain_graph=True,
        create_graph=create_graph,
        materialize_grads=True,
    )
