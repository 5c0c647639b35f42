"""SGD with momentum, weight decay and a schedule, as PyTorch has it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from limen.dynamics._descent import begin
from limen.dynamics._scheduled import STEP, Scheduled, add, check_decay, check_momentum, velocity
from limen.types import Objective, State


@dataclass(frozen=True)
class SGD(Scheduled):
    """g ← ∇L(w) + λw, v ← βv + (1 − d)g (at first v ← g), w ← w − ηv; Nesterov's rule steps along g + βv.

    With η = lr·α(s). The conventions are PyTorch's: the decay is part of the gradient, and momentum is not reset where
    the rate changes.

    Attributes:
        momentum: β.
        weight_decay: λ.
        dampening: d.
        nesterov: whether to step along g + βv.
    """

    momentum: float = 0.0
    weight_decay: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    name = "sgd"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_momentum(self.momentum, self.dampening, self.nesterov)
        check_decay(self.weight_decay)

    def init(self, objective: Objective, w: Tensor) -> State:
        """Return the state at time 0, at rest."""
        numbers = {"lr": self.lr, "momentum": self.momentum, "weight_decay": self.weight_decay}
        return begin(w, numbers, ("velocity",) if self.momentum else ())

    def update(self, grad: Tensor, state: State, factor: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the next parameters and velocity."""
        rate, decay = -factor * state.hyper["lr"], state.hyper["weight_decay"]
        if self.weight_decay:
            grad = add(grad, decay, state.w)
        if not self.momentum:
            return add(state.w, rate, grad), {}
        beta = state.hyper["momentum"]
        share = 1 - self.dampening if STEP in state.history else 1.0  # as in PyTorch, v is g at first
        v = velocity(grad, state.slots, beta, share, own=bool(self.weight_decay) and not self.nesterov)
        return add(state.w, rate, add(grad, beta, v) if self.nesterov else v), {"velocity": v}

    def threshold(self) -> float:
        """Return (2 + 2β)/((1 − d)η) − λ, or (2 + 2β)/((1 + 2β)η) − λ with Nesterov's rule, at the base rate."""
        share = 1 + 2 * self.momentum if self.nesterov else 1 - self.dampening
        return (2 + 2 * self.momentum) / (share * self.lr) - self.weight_decay


def make(
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
) -> SGD:
    """Return SGD at a constant rate."""
    return SGD(lr, momentum=momentum, weight_decay=weight_decay, dampening=dampening, nesterov=nesterov)
