"""Loss and accuracy on held-out data: a forward pass of its own."""

from __future__ import annotations

from dataclasses import dataclass

from limen.errors import InputError
from limen.probes._values import loss_and_accuracy
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

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        """Evaluate the held-out data at the same parameters."""
        held_out = point.objective.test
        assert held_out is not None  # init saw it
        return loss_and_accuracy(held_out.at(state, need=Need.LOSS), "test"), memory


def make(*, freq: int = 1) -> Test:
    """Return the probe, looking every `freq` steps."""
    return Test(Schedule(freq))
