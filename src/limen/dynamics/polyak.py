"""Polyak (heavy-ball) momentum, in PyTorch's convention: v ← βv + ∇L(w), w ← w − ηv."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from limen.dynamics._descent import Momentum


@dataclass(frozen=True)
class Polyak(Momentum):
    """Heavy ball; unstable on a quadratic of sharpness above (2 + 2β)/η (Cohen et al. 2021, §4)."""

    name = "polyak"

    def direction(self, grad: Tensor, velocity: Tensor, beta: Tensor) -> Tensor:
        """Return v."""
        return velocity

    def threshold(self) -> float:
        """Return (2 + 2β)/η."""
        return (2 + 2 * self.beta) / self.lr


def make(*, lr: float, beta: float) -> Polyak:
    """Return heavy-ball descent with learning rate `lr` and momentum `beta`."""
    return Polyak(lr, beta)
