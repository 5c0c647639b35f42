"""One run, ready to draw, and the looks that all panels share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from limen.plots.source import Curve, Readable, crossing

LOSSES, ACCURACIES = ("train_loss", "test_loss"), ("train_acc", "test_acc")
LOOKS: dict[str, dict[str, Any]] = {
    "train": {"linestyle": "-", "zorder": 2.1},
    "test": {"linestyle": (0, (3, 1.2)), "alpha": 0.55},
}


@dataclass(frozen=True)
class Trace:
    """One run, ready to draw.

    Attributes:
        run: where it comes from.
        label: its name in the legend.
        colour: of all that belongs to it.
        curves: its measurements by name.
    """

    run: Readable
    label: str
    colour: str
    curves: dict[str, Curve]

    @property
    def diverged(self) -> bool:
        """Whether the run ended in a loss that is not finite."""
        return str(self.run.status) == "diverged"

    @property
    def crossed(self) -> tuple[float, int] | None:
        """Abscissa and step of the first measurement above the threshold, if there is one."""
        if "eigs" not in self.curves:
            return None
        eigenvalues = self.curves["eigs"]
        index = crossing(eigenvalues, self.run.threshold)
        return None if index is None else (float(eigenvalues.x[index]), int(eigenvalues.steps[index]))
