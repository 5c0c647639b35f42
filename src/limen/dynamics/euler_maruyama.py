"""Euler–Maruyama steps of dw = −∇L(w) dt + G(w) dB: strong order ½, weak order 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.dynamics._descent import begin
from limen.errors import InputError
from limen.objectives.analytic import Diffusing
from limen.randomness import generator
from limen.types import Dynamics, Info, Objective, Point, State


@dataclass(frozen=True)
class EulerMaruyama(Dynamics):
    """w ← w − h∇L(w) + √h G(w)ξ with fresh standard normal ξ (…, k); a landscape without noise takes Euler's steps.

    The noise of a step is a function of the seed and the step alone.

    Attributes:
        dt: the time step h.
        seed: of the noise.
    """

    dt: float = 0.01
    seed: int = 0
    name = "euler_maruyama"
    remedy = "a smaller dt may converge"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.dt) and self.dt > 0):
            raise InputError(f"dt must be a positive number, got {self.dt}.")

    def init(self, objective: Objective, w: Tensor) -> State:
        """Return the state at time 0."""
        return begin(w, {}).replace(history={"step": 0})

    def step(self, point: Point, state: State) -> tuple[State, Info]:
        """Advance once."""
        step = state.history["step"]
        after = state.replace(t=state.t + self.dt, history={"step": step + 1})
        match point.objective:
            case Diffusing() as landscape:
                shape = (*state.w.shape[:-1], landscape.noises)
                xi = torch.randn(shape, generator=generator(self.seed, self.name, step), dtype=state.w.dtype)
                w = state.w.clone()
                landscape.euler_(w, xi.to(w.device), self.dt)
                return after.replace(w=w), {}
            case _:
                return after.replace(w=state.w - self.dt * point.grad), {}

    def threshold(self) -> float:
        """Return 2/h."""
        return 2 / self.dt


def make(*, dt: float = 0.01, seed: int = 0) -> EulerMaruyama:
    """Return Euler–Maruyama with time step `dt` and its noise from `seed`."""
    return EulerMaruyama(dt, seed)
