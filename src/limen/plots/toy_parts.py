"""What the figures of the solvable systems share: theory is a line, simulation is dots, thresholds are dotted."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from limen.plots.style import GREY, WIDTH, styled

Array = NDArray[np.float64]

THEORY: dict[str, Any] = {"linewidth": 1.0, "linestyle": "-"}
DOTS: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 2.6, "markeredgewidth": 0.5}
BARS: dict[str, Any] = DOTS | {"elinewidth": 0.6, "capsize": 0}
THRESHOLD: dict[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 1.0}

PANEL = 1.55
"""Height of a panel, inches."""


def panels(count: int, height: float = PANEL) -> tuple[Figure, list[Axes]]:
    """Return a column-wide figure of `count` panels, one above the other; to be called within `styled`."""
    figure = Figure(figsize=(WIDTH, height * count), layout="constrained")
    axes = figure.subplots(count, 1, squeeze=False)[:, 0]
    return figure, list(axes)


def wilson(fraction: Array, count: int, sigmas: float = 3.0) -> Array:
    """Return how far a fraction among `count` may be below and above the one measured (2, …) (Wilson 1927).

    >>> wilson(np.array([0.0, 0.5]), 91).round(3).tolist()
    [[0.0, 0.15], [0.09, 0.15]]
    """
    share = sigmas**2 / count
    middle = (fraction + share / 2) / (1 + share)
    half = np.sqrt(share * (fraction * (1 - fraction) + share / 4)) / (1 + share)
    out: Array = np.maximum(np.stack([fraction - (middle - half), middle + half - fraction]), 0.0)
    return out


def shades(count: int) -> list[str]:
    """Return ordered colours, dark to light, for an ordered family of curves.

    >>> len(set(shades(5)))
    5
    """
    scale = matplotlib.colormaps["viridis"]
    return [to_hex(scale(0.85 * i / max(count - 1, 1))) for i in range(count)]


def legend(axes: Axes, *, title: str = "", columns: int = 1, place: str = "best") -> None:
    """Add a small legend."""
    look: dict[str, Any] = {
        "loc": place,
        "title": title or None,
        "ncols": columns,
        "fontsize": 6,
        "title_fontsize": 6,
        "handlelength": 1.6,
        "columnspacing": 1.0,
        "labelspacing": 0.3,
        "borderpad": 0.2,
    }
    axes.legend(**look)


def name(axes: Axes, text: str) -> None:
    """Say above a panel what it shows."""
    axes.set_title(text, fontsize=7, loc="left", pad=3)


def threshold(axes: Axes, value: float, label: str) -> None:
    """Mark a threshold on the horizontal axis."""
    axes.axvline(value, **THRESHOLD, label=label, zorder=0)


__all__ = [
    "BARS",
    "DOTS",
    "THEORY",
    "THRESHOLD",
    "Array",
    "Figure",
    "legend",
    "name",
    "panels",
    "shades",
    "styled",
    "threshold",
    "wilson",
]
