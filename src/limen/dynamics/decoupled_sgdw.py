"""SGD with momentum and a weight decay of its own that follows the schedule but not the learning rate."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from limen.dynamics._descent import begin
from limen.dynamics._scheduled import STEP, Scheduled, add, check_decay, check_momentum, velocity
from limen.errors import InputError
from limen.types import Objective, State


@dataclass(frozen=True)
class DecoupledSGDW(Scheduled):
    """v ← βv + (1 − d)∇L(w) (at first v ← ∇L), w ← (1 − αλ)w − ηv, with η = lr·α(s).

    The decay is not multiplied by lr, only by the schedule's α. Nesterov's rule steps along ∇L + βv.
    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019, algorithm 1.

    Attributes:
        momentum: β.
        weight_decay: λ, below 1.
        dampening: d.
        nesterov: whether to step along ∇L + βv.
    """

    momentum: float = 0.0
    weight_decay: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    name = "decoupled_sgdw"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_momentum(self.momentum, self.dampening, self.nesterov)
        check_decay(self.weight_decay)
        if self.weight_decay >= 1:
            raise InputError(
                f"weight_decay of decoupled_sgdw is the share of w lost in a step, below 1, got {self.weight_decay}."
            )

    def init(self, objective: Objective, w: Tensor) -> State:
        """Return the state at time 0, at rest."""
        numbers = {"lr": self.lr, "momentum": self.momentum, "weight_decay": self.weight_decay}
        return begin(w, numbers, ("velocity",) if self.momentum else ())

    def update(self, grad: Tensor, state: State, factor: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the next parameters and velocity."""
        rate = -factor * state.hyper["lr"]
        w = add(state.w, -factor * state.hyper["weight_decay"], state.w) if self.weight_decay else state.w
        if not self.momentum:
            return add(w, rate, grad, into=bool(self.weight_decay)), {}
        beta = state.hyper["momentum"]
        share = 1 - self.dampening if STEP in state.history else 1.0  # as in PyTorch, v is g at first
        v = velocity(grad, state.slots, beta, share, own=False)
        along = add(grad, beta, v) if self.nesterov else v
        return add(w, rate, along, into=bool(self.weight_decay)), {"velocity": v}

    def threshold(self) -> float:
        """Return the sharpness S at which a multiplier reaches −1: with κ = 1 − λ, at the base rate.

        On a quadratic w⁺ = κw − ηv⁺, v⁺ = βv + (1 − d)Sw has z² − (κ + β − (1 − d)ηS)z + βκ = 0, which z = −1 solves
        at (1 − d)ηS = (1 + β)(1 + κ). With Nesterov's rule it is (1 + 2β)ηS = (1 + β)(1 + κ).
        """
        share = 1 + 2 * self.momentum if self.nesterov else 1 - self.dampening
        return (1 + self.momentum) * (2 - self.weight_decay) / (share * self.lr)


def make(
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 1e-5,
    dampening: float = 0.0,
    nesterov: bool = False,
) -> DecoupledSGDW:
    """Return the rule at a constant rate."""
    return DecoupledSGDW(
        lr, momentum=momentum, weight_decay=weight_decay, dampening=dampening, nesterov=nesterov
    )
