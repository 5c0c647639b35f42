"""Learning-rate schedules: what the base rate is multiplied by at each step, a pure function of the step.

Times are counted in steps (batches). Legend: s the step, α the factor.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from limen.errors import InputError


class Schedule(ABC):
    """A factor α(s) of the learning rate; its class is a name of the published configurations.

    Attributes:
        name: as in a configuration.
    """

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Return α at `step`, which counts from 0."""

    def describe(self) -> dict[str, Any]:
        """Return name and times (JSON-able)."""
        return {"name": self.name, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Constant(Schedule):
    """α throughout."""

    alpha: float = 1.0
    name = "constant"

    def __post_init__(self) -> None:
        _check_factor("alpha", self.alpha)

    def __call__(self, step: int) -> float:
        """Return α."""
        return self.alpha


@dataclass(frozen=True)
class MultiStep(Schedule):
    """γ^(number of milestones that are not after s).

    Attributes:
        milestones: steps at which the rate falls, in any order.
        gamma: γ.
    """

    milestones: tuple[int, ...]
    gamma: float = 0.1
    name = "multistep"

    def __post_init__(self) -> None:
        if any(milestone < 0 for milestone in self.milestones):
            raise InputError(f"milestones must be 0 or more, got {list(self.milestones)}.")
        _check_factor("gamma", self.gamma)

    def __call__(self, step: int) -> float:
        """Return γ to the number of milestones reached."""
        return self.gamma ** sum(step >= milestone for milestone in self.milestones)


@dataclass(frozen=True)
class MultiStepWithWarmup(Schedule):
    """s/t_warmup before `t_warmup`, from then on as `MultiStep`, whose milestones count from step 0.

    Attributes:
        t_warmup: steps of warm-up.
        milestones: see `MultiStep`.
        gamma: see `MultiStep`.
    """

    t_warmup: int
    milestones: tuple[int, ...]
    gamma: float = 0.1
    name = "multistep_with_warmup"

    def __post_init__(self) -> None:
        _check_warmup(self.t_warmup)
        MultiStep(self.milestones, self.gamma)

    def __call__(self, step: int) -> float:
        """Return α at `step`."""
        if step < self.t_warmup:
            return step / self.t_warmup
        return MultiStep(self.milestones, self.gamma)(step)


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """α_f + (1 − α_f)·½(1 + cos πx), x = min(1, s/t_max) (Loshchilov & Hutter 2017, without restarts).

    Attributes:
        t_max: steps from 1 to α_f.
        alpha_f: α_f.
    """

    t_max: int
    alpha_f: float = 0.0
    name = "cosine_decay"

    def __post_init__(self) -> None:
        _check_length("t_max", self.t_max)
        _check_factor("alpha_f", self.alpha_f)

    def __call__(self, step: int) -> float:
        """Return α at `step`."""
        return _cosine(min(1.0, step / self.t_max), self.alpha_f)


@dataclass(frozen=True)
class CosineDecayWithWarmup(Schedule):
    """s/t_warmup before `t_warmup`, then a cosine from 1 to α_f that ends at `t_max`.

    Attributes:
        t_warmup: steps of warm-up.
        t_max: where the cosine ends, counted from step 0.
        alpha_f: α_f.
    """

    t_warmup: int
    t_max: int
    alpha_f: float = 0.0
    name = "cosine_decay_with_warmup"

    def __post_init__(self) -> None:
        _check_warmup(self.t_warmup, self.t_max)
        _check_factor("alpha_f", self.alpha_f)

    def __call__(self, step: int) -> float:
        """Return α at `step`."""
        if step < self.t_warmup:
            return step / self.t_warmup
        return _cosine(_after(step, self.t_warmup, self.t_max), self.alpha_f)


@dataclass(frozen=True)
class CosineWarmRestart(Schedule):
    """A cosine from 1 to α_f over `t_0` steps, begun anew each time; the k-th lasts t_0·t_multᵏ.

    Source: Loshchilov & Hutter, SGDR, ICLR 2017, eq. 5.

    Attributes:
        t_0: steps of the first.
        t_mult: how much longer each is than the one before.
        alpha_f: α_f.
    """

    t_0: int
    t_mult: int = 1
    alpha_f: float = 0.0
    name = "cosine_warmrestart"

    def __post_init__(self) -> None:
        _check_length("t_0", self.t_0)
        _check_length("t_mult", self.t_mult)
        _check_factor("alpha_f", self.alpha_f)

    def __call__(self, step: int) -> float:
        """Return α at `step`."""
        length = self.t_0
        if self.t_mult == 1:
            return _cosine(step % length / length, self.alpha_f)
        while step >= length:
            step, length = step - length, length * self.t_mult
        return _cosine(step / length, self.alpha_f)


@dataclass(frozen=True)
class LinearDecay(Schedule):
    """α_i + (α_f − α_i)·min(1, s/t_max).

    Attributes:
        t_max: steps from α_i to α_f.
        alpha_i: α_i.
        alpha_f: α_f.
    """

    t_max: int
    alpha_i: float = 1.0
    alpha_f: float = 0.0
    name = "linear_decay"

    def __post_init__(self) -> None:
        _check_length("t_max", self.t_max)
        _check_factor("alpha_i", self.alpha_i)
        _check_factor("alpha_f", self.alpha_f)

    def __call__(self, step: int) -> float:
        """Return α at `step`."""
        return self.alpha_i + (self.alpha_f - self.alpha_i) * min(1.0, step / self.t_max)


@dataclass(frozen=True)
class LinearDecayWithWarmup(Schedule):
    """α_i·s/t_warmup before `t_warmup`, then a line from α_i to α_f that ends at `t_max`.

    Attributes:
        t_warmup: steps of warm-up.
        t_max: where the line ends, counted from step 0.
        alpha_i: α_i.
        alpha_f: α_f.
    """

    t_warmup: int
    t_max: int
    alpha_i: float = 1.0
    alpha_f: float = 0.0
    name = "linear_decay_with_warmup"

    def __post_init__(self) -> None:
        _check_warmup(self.t_warmup, self.t_max)
        _check_factor("alpha_i", self.alpha_i)
        _check_factor("alpha_f", self.alpha_f)

    def __call__(self, step: int) -> float:
        """Return α at `step`."""
        if step < self.t_warmup:
            return self.alpha_i * step / self.t_warmup
        return self.alpha_i + (self.alpha_f - self.alpha_i) * _after(step, self.t_warmup, self.t_max)


SCHEDULES: Mapping[str, type[Schedule]] = {
    schedule.name: schedule
    for schedule in (
        Constant,
        MultiStep,
        MultiStepWithWarmup,
        CosineDecay,
        CosineDecayWithWarmup,
        CosineWarmRestart,
        LinearDecay,
        LinearDecayWithWarmup,
    )
}
"""The eight of the published code, by name."""


def _cosine(fraction: float, end: float) -> float:
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * fraction))


def _after(step: int, begin: int, end: int) -> float:
    """Return how much of the way from `begin` to `end` is done, at most 1."""
    return 1.0 if end <= begin else min(1.0, (step - begin) / (end - begin))


def _check_length(name: str, steps: int) -> None:
    if steps < 1:
        raise InputError(f"{name} must be at least 1 step, got {steps}.")


def _check_warmup(t_warmup: int, t_max: int | None = None) -> None:
    if t_warmup < 0:
        raise InputError(f"t_warmup must be 0 or more steps, got {t_warmup}.")
    if t_max is not None and t_max < max(1, t_warmup):
        raise InputError(f"t_max must not be before the end of the warm-up ({t_warmup}), got {t_max}.")


def _check_factor(name: str, factor: float) -> None:
    if not (math.isfinite(factor) and factor >= 0):
        raise InputError(f"{name} must be 0 or a positive number, got {factor}.")
