"""What the descent rules share: hyperparameters as leaves of the state, and checks of their range."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.errors import InputError
from limen.types import Dynamics, Info, Objective, Point, State


def check_lr(lr: float) -> None:
    """Refuse a learning rate that is not a positive finite number."""
    if not (math.isfinite(lr) and lr > 0):
        raise InputError(f"lr must be a positive number, got {lr}.")


def check_beta(beta: float) -> None:
    """Refuse a momentum outside [0, 1)."""
    if not 0 <= beta < 1:
        raise InputError(f"beta (momentum) must lie in [0, 1), got {beta}.")


def begin(w: Tensor, hyper: dict[str, float], slots: tuple[str, ...] = ()) -> State:
    """Return the state at time 0, with every slot zero."""
    numbers = {name: torch.tensor(value, dtype=torch.float64) for name, value in hyper.items()}
    zero_time = torch.zeros(w.shape[:-1], dtype=torch.float64)
    return State(w, zero_time, numbers, {name: torch.zeros_like(w) for name in slots})


def like(number: Tensor, w: Tensor) -> Tensor:
    """Return a hyperparameter so that it multiplies `w` (…, p): one value for all, or one a member."""
    return number if number.ndim == 0 else number.to(w.device, w.dtype)[..., None]


@dataclass(frozen=True)
class Momentum(Dynamics):
    """Descent with a velocity v ← βv + ∇L(w); the rules differ in the direction that they step along.

    Attributes:
        lr: the learning rate η.
        beta: the momentum β.
    """

    lr: float
    beta: float

    def __post_init__(self) -> None:
        check_lr(self.lr)
        check_beta(self.beta)

    def init(self, objective: Objective, w: Tensor) -> State:
        """Return the state at time 0, at rest."""
        return begin(w, {"lr": self.lr, "beta": self.beta}, ("velocity",))

    @abstractmethod
    def direction(self, grad: Tensor, velocity: Tensor, beta: Tensor) -> Tensor:
        """Return what is subtracted, over η: all are (…, p), β broadcasts."""

    def step(self, point: Point, state: State) -> tuple[State, Info]:
        """Advance once."""
        lr, beta = state.hyper["lr"], like(state.hyper["beta"], state.w)
        velocity = beta * state.slots["velocity"] + point.grad
        w = state.w - like(lr, state.w) * self.direction(point.grad, velocity, beta)
        return state.replace(w=w, t=state.t + lr, slots={"velocity": velocity}, buffers=point.buffers), {}
