"""Loss and accuracy on held-out data: a forward pass of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

from limen.errors import InputError
from limen.types import Memory, Need, Objective, Point, Probe, Schedule, State, Value


@dataclass(frozen=True)
class Test(Probe):
    """Records `test_loss`, and `test_acc` where accuracy is defined."""

    __test__ = False  # not a test case for pytest
    schedule: Schedule = Schedule(1)
    name = "test"
    need = Need.NOTHING

    def init(self, objective: Objective) -> Memory:
        """Check that there is held-out data."""
        if objective.test is None:
            raise InputError("the test probe needs held-out data: give the objective test=(inputs, targets).")
        return {}

    def measure(self, point: Point, step: int, state: State, memory: Memory) -> tuple[dict[str, Value], Memory]:
        """Evaluate the held-out data at the same parameters."""
        held_out = point.objective.test
        assert held_out is not None  # init saw it
        there = held_out.at(state, need=Need.LOSS)
        values: dict[str, Value] = {"test_loss": there.loss.item()}
        if not math.isnan(accuracy := there.accuracy.item()):
            values["test_acc"] = accuracy
        return values, memory


def make(*, freq: int = 1) -> Test:
    """Return the probe, looking every `freq` steps."""
    return Test(Schedule(freq))
