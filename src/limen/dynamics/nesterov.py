"""Nesterov momentum, in PyTorch's convention: v ← βv + ∇L(w), w ← w − η(∇L(w) + βv)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from limen.dynamics._descent import Momentum


@dataclass(frozen=True)
class Nesterov(Momentum):
    """Nesterov's method; unstable above (2 + 2β)/(η(1 + 2β)) on a quadratic (Cohen et al. 2021, §4)."""

    name = "nesterov"

    def direction(self, grad: Tensor, velocity: Tensor, beta: Tensor) -> Tensor:
        """Return ∇L(w) + βv."""
        return grad + beta * velocity

    def threshold(self) -> float:
        """Return (2 + 2β)/(η(1 + 2β))."""
        return (2 + 2 * self.beta) / (self.lr * (1 + 2 * self.beta))


def make(*, lr: float, beta: float) -> Nesterov:
    """Return Nesterov descent with learning rate `lr` and momentum `beta`."""
    return Nesterov(lr, beta)
