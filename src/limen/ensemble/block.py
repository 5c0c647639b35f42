"""Some steps of all members at once, and what was read at each: no folder is touched here.

Legend: m members, S steps of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.objectives.batched import Batched, BatchedPoint
from limen.probes import Test, Train
from limen.run import Goals
from limen.store.lines import Rows
from limen.types import Dynamics, Need, Probe, State


def _test_point(point: BatchedPoint) -> BatchedPoint:
    test = point.objective.test
    assert isinstance(test, Batched)  # the probe saw it when it began
    return test.at(point.state, need=Need.LOSS)


READ: Mapping[type[Probe], Callable[[BatchedPoint], BatchedPoint]] = {
    Train: lambda point: point,
    Test: _test_point,
}
"""Probes of loss and accuracy alone, read off all members at once, and the point that they read; every other probe
measures each member by itself."""


class Readings:
    """Loss and accuracy of all members at the steps at which one probe looked."""

    def __init__(self, probe: Probe) -> None:
        self.name, self._read, self._schedule = probe.name, READ[type(probe)], probe.schedule
        self.steps: list[int] = []
        self._loss: list[Tensor] = []
        self._accuracy: list[Tensor] = []

    def look(self, point: BatchedPoint, step: int) -> None:
        """Note what the probe sees at `step`, if it looks there."""
        if self._schedule.due(step):
            seen = self._read(point)
            self.steps.append(step)
            self._loss.append(seen.loss)
            self._accuracy.append(seen.accuracy)

    def columns(self) -> dict[str, list[list[float]]]:
        """Return by quantity, then by member, its value at each step."""
        if not self.steps:
            return {}
        found = {f"{self.name}_loss": torch.stack(self._loss, dim=1)}
        if not bool(self._accuracy[0].isnan().all()):
            found[f"{self.name}_acc"] = torch.stack(self._accuracy, dim=1)
        return {name: x.tolist() for name, x in found.items()}


@dataclass(frozen=True)
class Block:
    """What happened from one step to another, the latter not included.

    Attributes:
        first: the first step.
        states: before each step, and after the last (S + 1).
        loss: the training losses (m, S), float64 on the CPU.
        accuracy: the training accuracies (m, S), nan where undefined.
        rows: by member, what each batched probe saw, in the order of the probes.
    """

    first: int
    states: Sequence[State]
    loss: Tensor
    accuracy: Tensor
    rows: Sequence[Sequence[Rows]]

    @property
    def stop(self) -> int:
        """The step after the last one."""
        return self.first + len(self.states) - 1

    def diverged(self) -> list[int | None]:
        """Return by member the first step at which the loss is not finite."""
        return self._first(~self.loss.isfinite())

    def reached(self, goals: Goals) -> list[int | None]:
        """Return by member the first step at which a goal is reached."""
        met = torch.zeros_like(self.loss, dtype=torch.bool)
        if goals.loss_goal is not None:
            met |= self.loss < goals.loss_goal
        if goals.acc_goal is not None:
            met |= self.accuracy > goals.acc_goal
        return self._first(met)

    def _first(self, which: Tensor) -> list[int | None]:
        steps = (self.first + which.int().argmax(dim=1)).tolist()
        return [step if found else None for step, found in zip(steps, which.any(dim=1).tolist(), strict=True)]


def advance(
    objective: Batched,
    dynamics: Dynamics,
    probes: Sequence[Probe],
    state: State,
    first: int,
    stop: int,
    asked: Callable[[], bool],
) -> Block:
    """Step all members from `first` to `stop`, or to the next boundary once `asked` says so.

    A member whose loss is not finite goes on beside the others, whom it cannot touch; its numbers are not kept.

    Args:
        objective: of every member.
        dynamics: whose rule is followed, with the numbers in `state.hyper`.
        probes: the batched ones.
        state: of all members before `first`.
        first: the first step.
        stop: the step to end before.
        asked: whether to stop early; at least one step is made.
    """
    states, losses, accuracies = [state], [], []
    readings = [Readings(probe) for probe in probes]
    for step in range(first, stop):
        point = objective.at(state, need=dynamics.need | Need.LOSS)
        for reading in readings:
            reading.look(point, step)
        losses.append(point.loss)
        accuracies.append(point.accuracy)
        state, _ = dynamics.step(point, state)
        states.append(state)
        if asked():
            break
    t = torch.stack([before.t for before in states[:-1]], dim=1).tolist()
    columns = [(reading, reading.columns()) for reading in readings]
    rows = [
        [
            Rows(
                reading.name,
                reading.steps,
                [times[step - first] for step in reading.steps],
                {name: values[i] for name, values in found.items()},
            )
            for reading, found in columns
            if found
        ]
        for i, times in enumerate(t)
    ]
    return Block(first, states, _table(losses), _table(accuracies), rows)


def _table(columns: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(columns), dim=1).to("cpu", torch.float64)


def size(state: State, room: int, most: int) -> int:
    """Return how many steps a block may have if its states are to fit into `room` bytes: from 1 to `most`."""
    each = sum(x.nbytes for x in (state.w, *state.slots.values()))
    return max(1, min(most, math.floor(room / each)))
