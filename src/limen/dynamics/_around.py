"""Algorithms around an optimizer: sharpness-aware minimisation, and averages of the weights."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limen.errors import InputError
from limen.types import AVERAGE, Dynamics, Info, LinearOperator, Need, Objective, Point, State

STEPS, COUNT = "averaging_steps", "averaged"
"""In a state's history: how many steps were made, and how many weights an average holds."""


@dataclass(frozen=True)
class Around(Dynamics):
    """A dynamics that does something more around another.

    Attributes:
        base: the other.
    """

    base: Dynamics

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the base."""
        return self.base.name

    @property
    def need(self) -> Any:  # type: ignore[override]
        """What a step of the base asks of its point."""
        return self.base.need

    @property
    def remedy(self) -> str:  # type: ignore[override]
        """That of the base."""
        return self.base.remedy

    @property
    def lengthy(self) -> bool:  # type: ignore[override]
        """That of the base."""
        return self.base.lengthy

    def init(self, objective: Objective, w: Tensor) -> State:
        """Return the base's state at time 0."""
        return self.base.init(objective, w)

    def threshold(self) -> float | None:
        """Return that of the base, which an average does not change."""
        return self.base.threshold()

    def describe(self) -> dict[str, Any]:
        """Return what must agree for a run to be continued."""
        own = {key: value for key, value in vars(self).items() if key != "base"}
        return {**self.base.describe(), type(self).__name__.lower(): own}


@dataclass(frozen=True)
class SAM(Around):
    """The base steps from w along the gradient at w + ρ g/‖g‖, taken on the same examples.

    Buffers are those of the pass at w. A step costs two gradients.
    Source: Foret et al., Sharpness-Aware Minimization, ICLR 2021, algorithm 1.

    Attributes:
        rho: ρ.
    """

    rho: float = 0.05

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rho) and self.rho > 0):
            raise InputError(f"rho must be a positive number, got {self.rho}.")

    def step(self, point: Point, state: State) -> tuple[State, Info]:
        """Advance once."""
        grad = point.grad
        length = grad.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(grad.dtype).tiny)
        above = state.replace(w=state.w + self.rho * grad / length)
        there = point.objective.at(above, point.batch, Need.GRAD)
        return self.base.step(_Elsewhere(point, there.grad), state)

    def threshold(self) -> float | None:
        """Return None: near a minimum g/‖g‖ is no linear function."""
        return None


class _Elsewhere(Point):
    """A point with another's gradient."""

    def __init__(self, point: Point, grad: Tensor) -> None:
        self.objective, self.batch = point.objective, point.batch
        self._point, self._grad = point, grad

    @property
    def loss(self) -> Tensor:
        """That of the point."""
        return self._point.loss

    @property
    def accuracy(self) -> Tensor:
        """That of the point."""
        return self._point.accuracy

    @property
    def grad(self) -> Tensor:
        """The other's."""
        return self._grad

    @property
    def predictions(self) -> Tensor:
        """Those of the point."""
        return self._point.predictions

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """Those of the point."""
        return self._point.buffers

    def curvature(self, subset: int | None = None) -> LinearOperator:
        """Return that of the point."""
        return self._point.curvature(subset)

    def d3(self, u: Tensor, v: Tensor) -> Tensor:
        """Return that of the point."""
        return self._point.d3(u, v)


@dataclass(frozen=True)
class Averaged(Around):
    """The base moves as ever, and an average of its weights and real-valued buffers is kept beside it.

    The average is the branch `AVERAGE` of the state; an objective with held-out data evaluates it where there is one.
    """

    @abstractmethod
    def share(self, step: int, count: int) -> float | None:
        """Return the new weights' share of the average after `step` steps, which holds `count`; None: as it was."""

    def step(self, point: Point, state: State) -> tuple[State, Info]:
        """Advance the base once, and let the average follow."""
        after, info = self.base.step(point, state)
        step = int(state.history.get(STEPS, 0)) + 1
        count = int(state.history.get(COUNT, 0))
        branches, share = dict(state.branches), self.share(step, count)
        if share is not None:
            branches[AVERAGE] = _moved(branches.get(AVERAGE), after, share)
            count += 1
        history = {**after.history, STEPS: step, COUNT: count}
        return after.replace(branches=branches, history=history), info


@dataclass(frozen=True)
class EMA(Averaged):
    """An exponential moving average: a ← (1 − s)·w + s·a after each step, with s = 2^(−1/half_life).

    It begins at the weights after the first step.

    Attributes:
        half_life: steps after which half of the average is new.
    """

    half_life: float = 1000.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.half_life) and self.half_life > 0):
            raise InputError(f"half_life must be a positive number of steps, got {self.half_life}.")

    def share(self, step: int, count: int) -> float:
        """Return 1 − s, 1 at first."""
        return 1 - math.exp2(-1 / self.half_life) if count else 1.0


@dataclass(frozen=True)
class SWA(Averaged):
    """The mean of the weights after `start` steps and after every `every`-th step from there.

    BatchNorm's running statistics are averaged with them. Source: Izmailov et al., UAI 2018.

    Attributes:
        start: steps before the first.
        every: steps from one to the next.
    """

    start: int = 0
    every: int = 1

    def __post_init__(self) -> None:
        if self.start < 0 or self.every < 1:
            raise InputError(
                "swa needs a start of 0 or more and an interval of at least 1 step, "
                f"got {self.start} and {self.every}."
            )

    def share(self, step: int, count: int) -> float | None:
        """Return 1/(count + 1) where it is due."""
        due = step >= self.start and (step - self.start) % self.every == 0
        return 1 / (count + 1) if due else None


def _moved(average: State | None, state: State, share: float) -> State:
    """Return the average with a share of `state`: what is no real number, such as a counter, is taken over."""
    if average is None or share == 1:
        return State(state.w, state.t, buffers=state.buffers)

    def towards(old: Tensor, new: Tensor) -> Tensor:
        return torch.lerp(old, new, share) if new.is_floating_point() else new

    buffers = {name: towards(average.buffers[name], x) for name, x in state.buffers.items()}
    return State(towards(average.w, state.w), state.t, buffers=buffers)
