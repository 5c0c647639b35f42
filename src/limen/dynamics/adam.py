"""Adam, as PyTorch has it: weight decay is part of the gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.dynamics._descent import begin
from limen.dynamics._scheduled import STEP, Scheduled, add, check_decay
from limen.errors import InputError
from limen.types import Objective, State


@dataclass(frozen=True)
class Adam(Scheduled):
    """m ← β₁m + (1 − β₁)g, ν ← β₂ν + (1 − β₂)g², w ← w − η m̂/(√ν̂ + ε), with g = ∇L(w) + λw and η = lr·α(s).

    m̂ = m/(1 − β₁ˢ) and ν̂ = ν/(1 − β₂ˢ) at the s-th step, which counts from 1; with `amsgrad`, ν̂ takes the largest ν so
    far. There is no threshold on the Hessian: it depends on ν (38/η on the preconditioned one at β₁ = .9).
    Source: Kingma & Ba 2015; Reddi et al. 2018.

    Attributes:
        betas: β₁ and β₂.
        eps: ε.
        weight_decay: λ.
        amsgrad: whether ν̂ may not fall.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    name = "adam"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas must be two numbers in [0, 1), got {list(self.betas)}.")
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise InputError(f"eps must be 0 or a positive number, got {self.eps}.")
        check_decay(self.weight_decay)

    def init(self, objective: Objective, w: Tensor) -> State:
        """Return the state at time 0, with both moments zero."""
        slots = ("first", "second", *(("largest",) if self.amsgrad else ()))
        return begin(w, {"lr": self.lr, "weight_decay": self.weight_decay}, slots)

    def update(self, grad: Tensor, state: State, factor: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the next parameters and moments."""
        s, (b1, b2) = int(state.history.get(STEP, 0)) + 1, self.betas
        if self.weight_decay:
            grad = add(grad, state.hyper["weight_decay"], state.w)
        slots = {
            "first": torch.lerp(state.slots["first"], grad, 1 - b1),
            "second": (b2 * state.slots["second"]).addcmul_(grad, grad, value=1 - b2),
        }
        spread = slots["second"]
        if self.amsgrad:
            spread = slots["largest"] = torch.maximum(state.slots["largest"], spread)
        scale = (spread / (1 - b2**s)).sqrt_().add_(self.eps)
        rate = -factor * state.hyper["lr"] / (1 - b1**s)
        return add(state.w, rate, slots["first"] / scale), slots


def make(
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
) -> Adam:
    """Return Adam at a constant rate."""
    return Adam(lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)
