"""What every integrator of the gradient flow θ' = −g(θ) shares: the interface, the loop and the evidence.

Legend: p parameters, θ flat parameters (p,), g the gradient of the loss, h step, u unit roundoff (the machine epsilon).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from limen.errors import InputError

Gradient: TypeAlias = Callable[[Tensor], Tensor]
"""θ (p,) to the gradient of the loss (p,), in θ's dtype and on its device."""
Memory: TypeAlias = dict[str, Any]
"""All that an integrator knows: tensors, numbers and strings by name. Never changed in place; saved, it loads with
`weights_only=True`, and going on from it is going on, bit for bit. `t` is the time that its steps have reached."""

MOST_REJECTIONS = 40
"""In a row, before a step is given up; each at least halves the step."""
CLOCK = torch.finfo(torch.float64).eps
"""Of the time."""
WINDOW = 400
"""Attempts after which progress is judged."""


class StalledError(Exception):
    """The integrator cannot go on from here; the message says why.

    Attributes:
        diverged: whether it is for numbers that are not finite.
    """

    def __init__(self, why: str, *, diverged: bool = False) -> None:
        super().__init__(why)
        self.diverged = diverged


@dataclass(frozen=True)
class Evidence:
    """What one `advance` did.

    Attributes:
        method: of the last step (`auto` names the one it uses).
        steps: steps accepted.
        rejections: steps tried and not accepted.
        gradients: gradients evaluated, those of rejected steps, differences and power iterations too.
        error: sum of the estimated local errors ‖·‖ of the accepted steps; nan where the method has no estimate.
        ok: whether t_end was reached.
        why: what was in the way and what to do; empty if ok.
        diverged: whether that was θ or its gradient ceasing to be finite.
        forced: accepted steps whose error estimate was above rtol‖θ‖, at kinks (`RKC2.floor`); 0 elsewhere.
    """

    method: str
    steps: int
    rejections: int
    gradients: int
    error: float
    ok: bool = True
    why: str = ""
    diverged: bool = False
    forced: int = 0


@dataclass(frozen=True)
class Advance:
    """Where the flow stands at t_end.

    Attributes:
        theta: θ(t_end) (p,); where it failed, θ at the last accepted step.
        memory: to go on from.
        evidence: what it took.
    """

    theta: Tensor
    memory: Memory
    evidence: Evidence


class Ledger:
    """The gradient field with its costs written down; one for each `advance`.

    Attributes:
        gradients: evaluated so far.
        steps: accepted so far.
        rejections: so far.
        error: sum of the local error estimates so far.
        forced: steps accepted in spite of their error estimate so far.
        progress: sum of h × spectral radius over accepted steps so far; RK4 at alpha = 1 takes 4 gradients for each.
        in_a_row: rejections since the last accepted step.
    """

    def __init__(self, field: Gradient, rtol: float) -> None:
        self._field, self._rtol = field, rtol
        self.gradients = self.steps = self.rejections = self.in_a_row = 0
        self._mark = (0, 0, 0.0)  # attempts, rejections and progress when progress was last judged
        self.progress = 0.0
        self.error = 0.0
        self.forced = 0

    def __call__(self, theta: Tensor) -> Tensor:
        """Return g(θ)."""
        self.gradients += 1
        return self._field(theta)

    def accept(self, error: float, progress: float) -> None:
        """Note an accepted step, its local error estimate and how far it went, h × the spectral radius."""
        self.steps += 1
        self.in_a_row = 0
        self.error += error
        self.progress += progress
        attempts, _, before = self._mark
        if self.steps + self.rejections - attempts >= 5 * WINDOW:
            if self.progress - before < 0.01:
                raise StalledError(f"{5 * WINDOW} steps tried, and hardly any progress; use a larger rtol.")
            self._mark = (self.steps + self.rejections, self.rejections, self.progress)

    def forgive(self) -> None:
        """Begin the count of rejections in a row anew, for another method."""
        self.in_a_row = 0

    def reject(self, theta: Tensor, t: float, h: float, reason: str, slope: float) -> None:
        """Note a rejected step of length h from (t, θ), where ‖g‖ = slope; give up where smaller ones cannot help.

        Raises:
            StalledError: nothing is left to be gained by a smaller step.
        """
        self.rejections += 1
        self.in_a_row += 1
        u = torch.finfo(theta.dtype).eps
        size = float(theta.norm())
        if not math.isfinite(slope):
            raise StalledError(
                f"the gradient is not finite at t = {t:.6g}: the flow has diverged.", diverged=True
            )
        if h <= 16 * CLOCK * abs(t) or (reason != "infinite" and h * slope < u * size):
            raise unreachable(self._rtol, theta, t, f"a step of {h:.1e} moves θ by less than its rounding")
        if self.in_a_row >= MOST_REJECTIONS:
            if reason == "infinite":
                raise StalledError(
                    f"no step from t = {t:.6g} has a finite gradient at its end: the flow has diverged."
                )
            raise unreachable(
                self._rtol, theta, t, f"{self.in_a_row} rejections in a row ({reason}), step {h:.1e}"
            )
        attempts, rejections, progress = self._mark
        if self.steps + self.rejections - attempts >= WINDOW:
            many = self.rejections - rejections > WINDOW // 4
            if many and self.progress - progress < 1:
                text = (
                    f"{WINDOW} steps tried, {self.rejections - rejections} rejected, and hardly any progress"
                )
                raise unreachable(self._rtol, theta, t, text)
            self._mark = (self.steps + self.rejections, self.rejections, self.progress)


def unreachable(rtol: float, theta: Tensor, t: float, facts: str) -> StalledError:
    """Return the error that says that θ's precision does not do for rtol."""
    dtype = str(theta.dtype).removeprefix("torch.")
    wider = "" if theta.dtype == torch.float64 else " --dtype float64 or"
    return StalledError(
        f"{dtype} cannot reach rtol {rtol:g} here (t = {t:.6g}: {facts}); use{wider} a larger rtol."
    )


class Integrator(ABC):
    """A method for θ' = −g(θ). It holds its settings only; what it learns on the way is in its memory.

    Attributes:
        name: as on the command line.
        rtol: bound on the local error of a step, relative to ‖θ‖ (the whole vector's norm).
    """

    name: str
    rtol: float

    @abstractmethod
    def init(
        self, field: Gradient, theta: Tensor, t: float = 0.0, *, gradient: Tensor | None = None
    ) -> Memory:
        """Return the memory at time t at θ (p,); `gradient` is g(θ) where the caller has it, or None."""

    @abstractmethod
    def step(self, field: Ledger, memory: Memory, t_end: float) -> Memory:
        """Return the memory after one accepted step, which may reach beyond t_end.

        Raises:
            StalledError: there is no such step.
        """

    @abstractmethod
    def at(self, memory: Memory, t: float) -> Tensor:
        """Return θ(t) (p,) for t within the last step, at the accuracy of the method."""

    def method(self, memory: Memory) -> str:
        """Return the name of the method that takes the next step."""
        return self.name

    def advance(self, field: Gradient, memory: Memory, t_end: float) -> Advance:
        """Return θ(t_end), with t_end not before the time last asked for.

        Steps do not depend on the times asked for, except for RK4; between them the method's interpolant answers. So
        `memory["t"]` may be larger than t_end, and the number of ticks does not matter for cost or accuracy.

        Raises:
            InputError: t_end lies before the last step, or is not finite.
        """
        if not math.isfinite(t_end) or t_end < memory["earliest"]:
            known = memory["earliest"]
            raise InputError(
                f"expected a finite time of at least {known:.6g}, from where θ is known, got {t_end}."
            )
        ledger, theta = Ledger(field, self.rtol), self.at(memory, memory["t"])
        try:
            if self.rtol < 8 * torch.finfo(theta.dtype).eps:
                facts = f"the rounding of θ is {torch.finfo(theta.dtype).eps:.1e}"
                raise unreachable(self.rtol, theta, memory["t"], facts)
            while memory["t"] < t_end:
                before = memory["t"]
                memory = self.step(ledger, memory, t_end)
                if memory["t"] - before <= 4 * CLOCK * abs(before):
                    raise StalledError(
                        f"time stands still at t = {before:.6g}: the flow diverges there.", diverged=True
                    )
        except StalledError as stalled:
            return Advance(self.at(memory, memory["t"]), memory, self._evidence(ledger, memory, stalled))
        return Advance(self.at(memory, t_end), memory, self._evidence(ledger, memory, None))

    def _evidence(self, ledger: Ledger, memory: Memory, stalled: StalledError | None) -> Evidence:
        counts = (ledger.steps, ledger.rejections, ledger.gradients)
        done = Evidence(self.method(memory), *counts, ledger.error, forced=ledger.forced)
        return (
            done if stalled is None else replace(done, ok=False, why=str(stalled), diverged=stalled.diverged)
        )


def check(theta: Tensor, rtol: float) -> None:
    """Refuse what no method can start from."""
    if theta.ndim != 1 or not theta.is_floating_point():
        raise InputError(
            f"expected θ as one vector (p,) of floats, got shape {tuple(theta.shape)}, {theta.dtype}."
        )
    if not 0 < rtol < 1:
        raise InputError(f"rtol: expected a number between 0 and 1, such as 1e-5, got {rtol}.")


def finite(x: Tensor) -> bool:
    """Whether every number in x is finite (one pass, no mask)."""
    return math.isfinite(float(x.abs().sum()))


def hermite(memory: Memory, t: float) -> Tensor:
    """Return the cubic at t through both ends of the last step with their slopes −g: y, g and before, g_before."""
    y: Tensor = memory["y"]
    h = memory["t"] - memory["earliest"]
    if h == 0 or t == memory["t"]:
        return y
    x = (t - memory["earliest"]) / h
    rise = x * x * (3 - 2 * x)
    slopes = x * (1 - x) ** 2 * memory["g_before"] - x * x * (1 - x) * memory["g"]
    between: Tensor = (1 - rise) * memory["before"] + rise * y - h * slopes
    return between
