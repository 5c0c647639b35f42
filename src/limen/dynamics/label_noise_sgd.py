"""Descent on a regression whose labels get fresh Gaussian noise at every step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.dynamics._descent import Momentum, like
from limen.errors import InputError
from limen.objectives.analytic import Regression
from limen.randomness import generator
from limen.types import Info, Objective, Point, State


@dataclass(frozen=True)
class LabelNoiseSGD(Momentum):
    """v ← βv + ∇L(w; y + σξ), w ← w − ηv: heavy-ball descent, fresh standard normal ξ at every step.

    On L = ‖f − y‖²/2N the noise adds −σJᵀξ/N to the gradient. The noise of a step is a function of the seed and the
    step alone.

    Attributes:
        lr: the learning rate η.
        beta: the momentum β.
        sigma: standard deviation σ of the label noise.
        seed: of the noise.
    """

    sigma: float = 0.0
    seed: int = 0
    name = "label_noise_sgd"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise InputError(f"sigma (label noise) must not be negative, got {self.sigma}.")

    def init(self, objective: Objective, w: Tensor) -> State:
        """Return the state at time 0, at rest.

        Raises:
            InputError: there is label noise, and the objective has no labels in closed form.
        """
        state = super().init(objective, w)
        hyper = {**state.hyper, "sigma": torch.tensor(self.sigma, dtype=torch.float64)}
        state = state.replace(hyper=hyper, history={"step": 0})
        if self.sigma > 0:
            _regression(objective)
        return state

    def direction(self, grad: Tensor, velocity: Tensor, beta: Tensor) -> Tensor:
        """Step along the velocity."""
        return velocity

    def step(self, point: Point, state: State) -> tuple[State, Info]:
        """Advance once."""
        step, lr = state.history["step"], state.hyper["lr"]
        velocity = like(state.hyper["beta"], state.w) * state.slots["velocity"] + self._grad(point, state)
        after = state.replace(
            w=state.w - like(lr, state.w) * velocity,
            t=state.t + lr,
            slots={"velocity": velocity},
            history={"step": step + 1},
        )
        return after, {}

    def _grad(self, point: Point, state: State) -> Tensor:
        if not bool((state.hyper["sigma"] > 0).any()):
            return point.grad
        landscape, w = _regression(point.objective), state.w
        shape = (*w.shape[:-1], len(landscape.targets))
        draw = generator(self.seed, self.name, state.history["step"])
        xi = torch.randn(shape, generator=draw, dtype=w.dtype).to(w.device)
        return landscape.gradient(w, like(state.hyper["sigma"], w) * xi)

    def threshold(self) -> float:
        """Return (2 + 2β)/η."""
        return (2 + 2 * self.beta) / self.lr


def _regression(objective: Objective) -> Regression:
    match objective:
        case Regression():
            return objective
    raise InputError(
        f"label noise needs a regression in closed form (limen.objectives.analytic.Regression), got "
        f"{type(objective).__name__}; a network on data takes noisy labels from its stream of batches."
    )


def make(*, lr: float, beta: float = 0.0, sigma: float = 0.0, seed: int = 0) -> LabelNoiseSGD:
    """Return heavy-ball descent with momentum `beta` under label noise `sigma`, drawn from `seed`."""
    return LabelNoiseSGD(lr, beta, sigma, seed)
