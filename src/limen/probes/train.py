"""Training loss and accuracy, read off the pass that the step makes anyway."""

from __future__ import annotations

from dataclasses import dataclass

from limen.probes._values import loss_and_accuracy
from limen.types import Memory, Need, Point, Probe, Schedule, State, Value


@dataclass(frozen=True)
class Train(Probe):
    """Records `train_loss`, and `train_acc` where accuracy is defined."""

    schedule: Schedule = Schedule(1)
    name = "train"
    need = Need.LOSS

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        """Read loss and accuracy of the point."""
        return loss_and_accuracy(point, "train"), memory


def make(*, freq: int = 1) -> Train:
    """Return the probe, looking every `freq` steps."""
    return Train(Schedule(freq))
