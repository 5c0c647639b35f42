"""Polyak (heavy-ball) momentum, in PyTorch's convention: v ← βv + ∇L(w), w ← w − ηv."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from limen.dynamics._descent import begin, check_beta, check_lr, like
from limen.types import Dynamics, Info, Objective, Point, State


@dataclass(frozen=True)
class Polyak(Dynamics):
    """Heavy ball; unstable on a quadratic of sharpness above (2 + 2β)/η (Cohen et al. 2021, §4).

    Attributes:
        lr: the learning rate η.
        beta: the momentum β.
    """

    lr: float
    beta: float
    name = "polyak"

    def __post_init__(self) -> None:
        check_lr(self.lr)
        check_beta(self.beta)

    def init(self, objective: Objective, w: Tensor) -> State:
        """Return the state at time 0, at rest."""
        return begin(w, {"lr": self.lr, "beta": self.beta}, ("velocity",))

    def step(self, point: Point, state: State) -> tuple[State, Info]:
        """Advance once."""
        lr, beta = state.hyper["lr"], state.hyper["beta"]
        velocity = like(beta, state.w) * state.slots["velocity"] + point.grad
        w = state.w - like(lr, state.w) * velocity
        return state.replace(w=w, t=state.t + lr, slots={"velocity": velocity}), {}

    def threshold(self) -> float:
        """Return (2 + 2β)/η."""
        return (2 + 2 * self.beta) / self.lr


def make(*, lr: float, beta: float) -> Polyak:
    """Return heavy-ball descent with learning rate `lr` and momentum `beta`."""
    return Polyak(lr, beta)
