"""Gradient descent: w ← w − η∇L(w)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from limen.dynamics._descent import begin, check_lr, like
from limen.types import Dynamics, Info, Objective, Point, State


@dataclass(frozen=True)
class GD(Dynamics):
    """Full-batch gradient descent; unstable on a quadratic of sharpness above 2/η.

    Attributes:
        lr: the learning rate η.

    Examples:
        Stepping by hand, on L(w) = ½·3w²:

        >>> import torch
        >>> from limen.objectives import Quadratic
        >>> objective = Quadratic(torch.tensor([[3.0]]), torch.tensor([1.0]))
        >>> rule = GD(lr=0.1)
        >>> state = rule.init(objective, objective.start())
        >>> for _ in range(2):
        ...     state, _ = rule.step(objective.at(state), state)
        >>> round(state.w.item(), 4), round(state.t.item(), 4)  # 0.7², 2η
        (0.49, 0.2)
    """

    lr: float
    name = "gd"

    def __post_init__(self) -> None:
        check_lr(self.lr)

    def init(self, objective: Objective, w: Tensor) -> State:
        """Return the state at time 0."""
        return begin(w, {"lr": self.lr})

    def step(self, point: Point, state: State) -> tuple[State, Info]:
        """Advance once."""
        lr = state.hyper["lr"]
        w = state.w - like(lr, state.w) * point.grad
        return state.replace(w=w, t=state.t + lr, buffers=point.buffers), {}

    def threshold(self) -> float:
        """Return 2/η."""
        return 2 / self.lr


def make(*, lr: float) -> GD:
    """Return gradient descent with learning rate `lr`."""
    return GD(lr)
