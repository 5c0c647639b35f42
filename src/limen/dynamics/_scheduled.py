"""What the optimizers of training share: a rate that follows a schedule, clipping, and the buffers of the pass."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from limen.dynamics._descent import check_lr
from limen.dynamics.schedules import Constant, Schedule
from limen.errors import InputError
from limen.types import Dynamics, Info, Point, State

STEP = "step"
"""In a state's history: how many steps were made."""


@dataclass(frozen=True)
class Scheduled(Dynamics):
    """An optimizer whose rate at step s is lr·α(s). `State.history["step"]` counts the steps.

    Attributes:
        lr: the base learning rate.
        schedule: α.
        grad_clip_norm: a gradient longer than this is scaled down to it (None: never).
    """

    lr: float
    schedule: Schedule = field(default_factory=Constant)
    grad_clip_norm: float | None = None

    def __post_init__(self) -> None:
        check_lr(self.lr)
        if self.grad_clip_norm is not None and not self.grad_clip_norm > 0:
            raise InputError(f"grad_clip_norm must be a positive number, got {self.grad_clip_norm}.")

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.lr * self.schedule(step)

    @abstractmethod
    def update(self, grad: Tensor, state: State, factor: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return new parameters and slots; the rate is `state.hyper["lr"] · factor`."""

    def step(self, point: Point, state: State) -> tuple[State, Info]:
        """Advance once."""
        done = int(state.history.get(STEP, 0))
        factor = self.schedule(done)
        w, slots = self.update(clipped(point.grad, self.grad_clip_norm), state, factor)
        after = state.replace(
            w=w,
            t=state.t + factor * state.hyper["lr"],
            slots=slots,
            buffers=point.buffers,
            history={**state.history, STEP: done + 1},
        )
        return after, {}

    def describe(self) -> dict[str, Any]:
        """Return what must agree for a run to be continued."""
        return {**super().describe(), "schedule": self.schedule.describe()}


def clipped(grad: Tensor, norm: float | None) -> Tensor:
    """Return g·min(1, c/(‖g‖ + 1e-6)) for g (…, p); g itself where c is None."""
    if norm is None:
        return grad
    length: Tensor = grad.norm(dim=-1, keepdim=True)
    return grad * (norm / (length + 1e-6)).clamp_max(1)


def add(x: Tensor, number: Tensor, y: Tensor, *, into: bool = False) -> Tensor:
    """Return x + number·y for x, y (…, p) and one number for all, or one a member (…).

    Args:
        x: a summand.
        number: what y is multiplied by.
        y: the other.
        into: whether x is the caller's own and may hold the sum: new memory for a large network costs as much as the
            sum itself.
    """
    if number.ndim > 0:
        return x + number.to(x.device, x.dtype)[..., None] * y
    return x.add_(y, alpha=number.item()) if into else torch.add(x, y, alpha=number.item())


def check_decay(weight_decay: float) -> None:
    """Refuse a weight decay that is not 0 or a positive finite number."""
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise InputError(f"weight_decay must be 0 or a positive number, got {weight_decay}.")


def check_momentum(momentum: float, dampening: float, nesterov: bool) -> None:
    """Refuse momentum and dampening outside [0, 1), and Nesterov's rule without plain momentum."""
    for name, value in (("momentum", momentum), ("dampening", dampening)):
        if not 0 <= value < 1:
            raise InputError(f"{name} must lie in [0, 1), got {value}.")
    if nesterov and (momentum == 0 or dampening != 0):
        raise InputError(
            f"nesterov needs a momentum and no dampening, got momentum={momentum}, dampening={dampening}."
        )


def velocity(grad: Tensor, slots: Mapping[str, Tensor], momentum: Tensor, share: float, own: bool) -> Tensor:
    """Return v ← βv + s·g; g is overwritten if it is the caller's own."""
    if share != 1.0:
        grad, own = share * grad, True
    return add(grad, momentum, slots["velocity"], into=own)
