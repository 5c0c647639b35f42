"""Training loss and accuracy, read off the pass that the step makes anyway."""

from __future__ import annotations

import math
from dataclasses import dataclass

from limen.types import Memory, Need, Point, Probe, Schedule, State, Value


@dataclass(frozen=True)
class Train(Probe):
    """Records `train_loss`, and `train_acc` where accuracy is defined."""

    schedule: Schedule = Schedule(1)
    name = "train"
    need = Need.LOSS

    def measure(self, point: Point, step: int, state: State, memory: Memory) -> tuple[dict[str, Value], Memory]:
        """Read loss and accuracy of the point."""
        return loss_and_accuracy(point, "train"), memory


def loss_and_accuracy(point: Point, prefix: str) -> dict[str, Value]:
    """Return `<prefix>_loss`, and `<prefix>_acc` where it is defined."""
    values: dict[str, Value] = {f"{prefix}_loss": point.loss.item()}
    if not math.isnan(accuracy := point.accuracy.item()):
        values[f"{prefix}_acc"] = accuracy
    return values


def make(*, freq: int = 1) -> Train:
    """Return the probe, looking every `freq` steps."""
    return Train(Schedule(freq))
