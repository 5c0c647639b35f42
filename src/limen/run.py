"""The loop: it steps a dynamics and lets probes look. It opens no file; `store.record` keeps what it yields."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from limen.errors import InputError
from limen.types import (
    HALTED,
    Dynamics,
    End,
    Events,
    HaltError,
    Mark,
    Memory,
    Need,
    Objective,
    Point,
    Probe,
    Record,
    State,
    Status,
    Stream,
    full_batch,
)

Stop = Callable[[Point, int], "str | None"]
"""Looks at a point before the update; a reason ends the run as finished."""

ALWAYS_SAFE = Need.LOSS | Need.PREDICTIONS
"""What may still be measured where the loss is not finite."""


def never(point: Point, step: int) -> str | None:
    """Return None: only the number of steps ends the run."""
    return None


@dataclass(frozen=True)
class Goals:
    """The published goals: stop once the training loss is below, or the accuracy above, a value.

    Attributes:
        loss_goal: stop when the training loss < it.
        acc_goal: stop when the training accuracy > it.
    """

    loss_goal: float | None = None
    acc_goal: float | None = None

    def __call__(self, point: Point, step: int) -> str | None:
        """Return the reason to stop at `point`, if there is one."""
        if self.loss_goal is not None and (loss := point.loss.item()) < self.loss_goal:
            return f"train loss {loss:.6g} is below the goal {self.loss_goal} at step {step}"
        if self.acc_goal is not None and (accuracy := point.accuracy.item()) > self.acc_goal:
            return f"train accuracy {accuracy:.6g} is above the goal {self.acc_goal} at step {step}"
        return None


@dataclass(frozen=True)
class Experiment:
    """A network on data, a rule of motion, and what to look at on the way: all that a run needs.

    Attributes:
        objective: the landscape.
        dynamics: what moves on it.
        steps: how many updates at the most.
        probes: what is measured; their names differ.
        stream: which minibatch each step sees.
        stop: ends the run early, before the update.
        closing: those of the probes that look once more after the last step.
        seen: what identifies the stream (JSON-able), compared on resume.
    """

    objective: Objective
    dynamics: Dynamics
    steps: int
    probes: Sequence[Probe] = ()
    stream: Stream = full_batch
    stop: Stop = never
    closing: Sequence[Probe] = ()
    seen: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"max_steps must be at least 1, got {self.steps}.")
        names = [probe.name for probe in self.probes]
        if len(set(names)) < len(names):
            raise InputError(f"two probes share a name: {sorted(names)}; give one of them another.")

    def begin(self) -> Mark:
        """Return the boundary before step 0."""
        memory = {probe.name: probe.init(self.objective) for probe in self.probes}
        state = self.dynamics.init(self.objective, self.objective.start())
        return Mark(0, state.replace(buffers=self.objective.buffers()), memory)

    def run(self, start: Mark | None = None) -> Events:
        """Yield marks and records from `start` (the beginning if None), then one `End`.

        A `Mark` precedes the records of its step; the last one stands where the run may be taken up again.
        A loss that is not finite is recorded, and ends the run as diverged.
        """
        mark = start or self.begin()
        state, memory = mark.state, dict(mark.memory)
        for step in range(mark.step, self.steps):
            yield Mark(step, state, dict(memory))
            due = [probe for probe in self.probes if probe.schedule.due(step)]
            need = _union(self.dynamics.need, *(probe.need for probe in due))
            point = self.objective.at(state, self.stream(step), need)
            finite = math.isfinite(point.loss.item())
            if not finite:
                due = [probe for probe in due if probe.need in ALWAYS_SAFE]
            yield from _observe(due, point, step, state, memory)
            if not finite:
                yield End(Status.DIVERGED, f"loss not finite at step {step}; {self.dynamics.remedy}")
                return
            if reason := self.stop(point, step):
                yield End(Status.FINISHED, reason)
                return
            try:
                after, told = self.dynamics.step(point, state)
            except HaltError as halt:
                yield End(halt.status, f"{halt} (step {step})")
                return
            if told:
                yield Record(self.dynamics.name, step, float(state.t), told)
            state = after
        last = max(self.steps, mark.step)
        yield Mark(last, state, dict(memory))
        if self.closing:
            point = self.objective.at(
                state, self.stream(last), _union(*(probe.need for probe in self.closing))
            )
            yield from _observe(self.closing, point, last, state, memory)
        yield End(Status.FINISHED, f"all {self.steps} steps done{_left_behind(state)}")

    def describe(self) -> dict[str, Any]:
        """Return what must agree for a run to be resumed (JSON-able); neither steps nor goals are in it."""
        return {
            "objective": self.objective.describe(),
            "dynamics": self.dynamics.describe(),
            "probes": {probe.name: probe.describe() for probe in self.probes},
            **({"stream": dict(self.seen)} if self.seen else {}),
        }


def _left_behind(state: State) -> str:
    """Say which branches of a composite could not keep up, and why."""
    halted = {
        name: branch.history[HALTED] for name, branch in state.branches.items() if HALTED in branch.history
    }
    return "".join(f"; {name} ended before: {why}" for name, why in halted.items())


@functools.cache
def _union(*needs: Need) -> Need:
    """Return all of them, and the loss: asked at every step, of few combinations."""
    return functools.reduce(operator.or_, needs, Need.LOSS)


def _observe(
    probes: Sequence[Probe], point: Point, step: int, state: State, memory: dict[str, Memory]
) -> Iterator[Record]:
    for probe in probes:
        values, memory[probe.name] = probe.measure(point, step, state, memory[probe.name])
        if values:
            yield Record(probe.name, step, float(state.t), values, probe.branch)
