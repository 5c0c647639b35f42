"""What the descent rules share: hyperparameters as leaves of the state, and checks of their range."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limen.errors import InputError
from limen.types import State


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
