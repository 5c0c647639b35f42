"""Nesterov momentum, in PyTorch's convention: v ← βv + ∇L(w), w ← w − η(∇L(w) + βv)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from limen.dynamics._descent import begin, check_beta, check_lr, like
from limen.types import Dynamics, Info, Objective, Point, State


@dataclass(frozen=True)
class Nesterov(Dynamics):
    """Nesterov's method; unstable above (2 + 2β)/(η(1 + 2β)) on a quadratic (Cohen et al. 2021, §4).

    Attributes:
        lr: the learning rate η.
        beta: the momentum β.
    """

    lr: float
    beta: float
    name = "nesterov"

    def __post_init__(self) -> None:
        check_lr(self.lr)
        check_beta(self.beta)

    def init(self, objective: Objective, w: Tensor) -> State:
        """Return the state at time 0, at rest."""
        return begin(w, {"lr": self.lr, "beta": self.beta}, ("velocity",))

    def step(self, point: Point, state: State) -> tuple[State, Info]:
        """Advance once."""
        lr, beta = state.hyper["lr"], state.hyper["beta"]
        momentum = like(beta, state.w)
        velocity = momentum * state.slots["velocity"] + point.grad
        w = state.w - like(lr, state.w) * (point.grad + momentum * velocity)
        return state.replace(w=w, t=state.t + lr, slots={"velocity": velocity}), {}

    def threshold(self) -> float:
        """Return (2 + 2β)/(η(1 + 2β))."""
        return (2 + 2 * self.beta) / (self.lr * (1 + 2 * self.beta))


def make(*, lr: float, beta: float) -> Nesterov:
    """Return Nesterov descent with learning rate `lr` and momentum `beta`."""
    return Nesterov(lr, beta)
