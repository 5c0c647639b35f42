"""How far two dynamics from one start have come apart, exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

from limen.errors import InputError
from limen.probes._values import loss_and_accuracy
from limen.types import HALTED, Memory, Need, Point, Probe, Schedule, State, Value

CLOCK = 1e-6
"""Relative difference of two times that are compared, at most."""


@dataclass(frozen=True)
class Distance(Probe):
    """Compares the trajectory w with that of a branch, w', of a `Together`, at equal times.

    Records, under the name of the branch, `distance` = ‖w − w'‖; `relative` = ‖w − w'‖/‖w' − w₀‖;
    `outputs_distance` = ‖f(w) − f(w')‖ over all outputs on the training set (Frobenius);
    `loss_gap` = L(w) − L(w'); `path` = the length of the trajectory of w so far; and the branch's `train_loss`
    and `train_acc`.

    Attributes:
        branch: the name of the other trajectory.
        schedule: the steps it looks at; both trajectories must be at the same time there.
    """

    branch: str
    schedule: Schedule = Schedule(1)
    need = Need.LOSS | Need.PREDICTIONS

    @property
    def name(self) -> str:  # type: ignore[override]
        """`distance_to_<branch>`."""
        return f"distance_to_{self.branch}"

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        """Evaluate the branch at its own parameters and compare."""
        if self.branch not in state.branches:
            known = ", ".join(state.branches) or "none"
            raise InputError(
                f"the distance to {self.branch!r} needs a branch of that name; there are: {known}."
            )
        other = state.branches[self.branch]
        if HALTED in other.history:
            return {}, memory  # the run's end says why
        if not math.isclose(float(other.t), float(state.t), rel_tol=CLOCK):
            raise InputError(
                f"at step {step} the time is {float(state.t):.6g} and that of {self.branch!r} {float(other.t):.6g}; "
                "expected one time. Let the steps of the one be a multiple of the other's, and look at those."
            )
        there = point.objective.at(other, need=self.need)
        apart = (state.w - other.w).double().norm().item()
        moved = (other.w - point.objective.start()).double().norm().item()
        values: dict[str, Value] = {
            "distance": apart,
            "relative": apart / moved if moved > 0 else 0.0,
            "outputs_distance": (point.predictions - there.predictions).double().norm().item(),
            "loss_gap": point.loss.item() - there.loss.item(),
            "path": state.slots["path"].item(),
            **loss_and_accuracy(there, "train"),
        }
        return values, memory


def make(*, branch: str = "flow", freq: int = 1) -> Distance:
    """Return the probe of the distance to `branch`, looking every `freq` steps."""
    return Distance(branch, Schedule(freq))
