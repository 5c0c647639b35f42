"""One run, ready to draw, and the looks that all panels share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from limen.analysis import Readable, crossing
from limen.analysis.clock import Clock
from limen.plots.source import Curve

LOSSES, ACCURACIES = ("train_loss", "test_loss"), ("train_acc", "test_acc")
NEURONS = ("independent_fraction",)
DISTANCES = ("distance", "estimated_distance")
"""Of a descent to its flow, without a band and with: columns value, low, high, displacement of the flow."""

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
        crossed: abscissa and step of the first measurement above the threshold, if it has a place on the axis.
    """

    run: Readable
    label: str
    colour: str
    curves: dict[str, Curve]
    crossed: tuple[float, int] | None

    @property
    def diverged(self) -> bool:
        """Whether the run ended in a loss that is not finite."""
        return str(self.run.status) == "diverged"


def crossed(run: Readable, place: Clock) -> tuple[float, int] | None:
    """Return abscissa and step of the first measurement above the threshold, if it has a place on the clock."""
    first = crossing(run)
    if first is None:
        return None
    at = float(place(np.array([first.step]), np.array([first.t]))[0])
    return (at, first.step) if math.isfinite(at) else None
