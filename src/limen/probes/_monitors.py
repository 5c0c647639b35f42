"""What the published callbacks watch: the learning rate and the size of the gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from limen.types import Memory, Need, Objective, Point, Probe, Schedule, State, Value


@dataclass(frozen=True)
class LearningRate(Probe):
    """Records `lr`, the rate of the step that follows.

    Attributes:
        rate: from the step to it.
    """

    rate: Callable[[int], float]
    schedule: Schedule = Schedule(1)
    name = "lr_monitor"

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        """Ask the rule."""
        return {"lr": self.rate(step)}, memory


@dataclass(frozen=True)
class GradientNorm(Probe):
    """Records `grad_norm`, ‖∇L‖₂ over the minibatch, and on demand `layer_grad_norms`, one a parameter tensor.

    Attributes:
        split: from the flat gradient to its parts by name; None for the whole alone.
    """

    split: Callable[[Tensor], dict[str, Tensor]] | None = None
    schedule: Schedule = Schedule(1)
    name = "grad_monitor"
    need = Need.GRAD

    def init(self, objective: Objective) -> Memory:
        """Return an empty memory: it fits every objective."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return what must agree for its records to be continued."""
        return {"every": self.schedule.every, "layers": self.split is not None}

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        """Take norms of the gradient that the step uses."""
        values: dict[str, Value] = {"grad_norm": point.grad.norm().item()}
        if self.split is not None:
            values["layer_grad_norms"] = [part.norm().item() for part in self.split(point.grad).values()]
        return values, memory
