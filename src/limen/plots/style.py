"""The look of limen's figures, kept local: a user's own settings are neither read nor changed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.colors import to_hex

WIDTH = 3.5
"""Inches: one column of a two-column page."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito (2008), told apart by colour-blind readers; yellow is left out as too faint on white."""

GREY = "#555555"

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.formatter.limits": (-3, 6),
    "axes.formatter.use_mathtext": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 150,
    "figure.titlesize": 7,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 0.9,
    "lines.solid_joinstyle": "round",
    "pdf.fonttype": 42,  # text stays text in the editors of journals
    "savefig.dpi": 300,
    "svg.fonttype": "path",
    "svg.hashsalt": "limen",  # the same records give the same bytes
    "xtick.direction": "out",
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
    "ytick.minor.width": 0.4,
}


def styled() -> AbstractContextManager[None]:
    """Return a context in which matplotlib has limen's look and none of the user's."""
    return matplotlib.style.context(["default", STYLE])


def palette(count: int) -> list[str]:
    """Return `count` colours: the cycle where it suffices, evenly spaced steps of a perceptual map beyond.

    >>> palette(2)
    ['#0072b2', '#d55e00']
    >>> len(set(palette(12)))
    12
    """
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    viridis = matplotlib.colormaps["viridis"]
    return [to_hex(viridis(0.88 * i / (count - 1))) for i in range(count)]
