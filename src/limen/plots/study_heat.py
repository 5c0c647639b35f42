"""A quantity over two words of the spec: a heat map of its mean over replicates."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, LogNorm, Normalize
from matplotlib.figure import Figure

from limen.analysis import Array
from limen.catalogue.runs import Runs
from limen.errors import InputError
from limen.plots import study
from limen.plots.style import GREY, WIDTH

WRITTEN = 10
"""Columns up to which a cell has its value in it."""

TICKS = 8
ABSENT = "#eeeeee"


def heat(runs: Runs, axes: tuple[str, str], quantity: str) -> Figure:
    """Draw the mean of a quantity over replicates, `axes[0]` to the right and `axes[1]` upwards.

    Cells are of one size, whatever the distance of the values. Pale cells have no run; a cross marks those in which
    a run diverged. Quantities that are 1 at the edge are white there.

    Raises:
        InputError: runs of one cell differ in more than the seed, or no run has the quantity.
    """
    study.require(runs, quantity)
    others = study.others(runs, axes)
    if others:
        raise InputError(
            f"over: the runs also differ in {', '.join(others)}, and one cell would hold them all. "
            f"Choose among them with --where, as in --where {_choice(runs, others[0])}."
        )
    columns, rows = (sorted({row[axis] for row in runs.rows}, key=study.rank) for axis in axes)
    grid = np.full((len(rows), len(columns)), np.nan)
    lost = np.zeros(grid.shape, dtype=np.bool_)
    for (right, up), cell in study.grouped(runs.rows, axes).items():
        place = rows.index(up), columns.index(right)
        lost[place] = any(row["status"] == "diverged" for row in cell)
        if found := study.measured(cell, quantity):
            grid[place] = study.mean_and_spread(found)[0]
    height = min(max(0.28 * len(rows), 1.2), 4.5)
    figure = Figure(figsize=(WIDTH, height + 0.75), layout="constrained")
    panel = figure.subplots()
    _cells(figure, panel, grid, lost, quantity)
    for axis, name, values in ((panel.xaxis, axes[0], columns), (panel.yaxis, axes[1], rows)):
        every = -(-len(values) // TICKS)
        axis.set_ticks(range(0, len(values), every), [_text(value) for value in values[::every]])
        axis.set_label_text(name)
    panel.tick_params(length=0)
    heading = study.heading(runs)
    if heading:
        figure.suptitle(heading, color=GREY)
    return figure


def _cells(figure: Figure, panel: Axes, grid: Array, lost: np.ndarray[Any, Any], quantity: str) -> None:
    norm, name = _scale(grid, quantity)
    colours = matplotlib.colormaps[name].with_extremes(bad=ABSENT)
    image = panel.imshow(np.ma.masked_invalid(grid), cmap=colours, norm=norm, aspect="auto", origin="lower")
    bar = figure.colorbar(image, ax=panel, pad=0.02, aspect=15)
    bar.set_label(study.name_of(quantity))
    bar.outline.set_visible(False)
    written = grid.shape[1] <= WRITTEN
    for up, right in np.ndindex(grid.shape):
        value = grid[up, right]
        marks = [f"{value:.3g}"] if written and np.isfinite(value) else []
        text = " ".join([*marks, *(["×"] if lost[up, right] else [])])
        dark = np.isfinite(value) and np.dot(image.to_rgba(value)[:3], (0.3, 0.59, 0.11)) < 0.5
        panel.text(
            right, up, text, color="white" if dark else "black", ha="center", va="center", fontsize=5.5
        )


def _scale(grid: Array, quantity: str) -> tuple[Normalize, str]:
    seen = grid[np.isfinite(grid)]
    if quantity in study.RATIOS:
        return CenteredNorm(1.0, max(float(np.abs(seen - 1).max()), 0.05)), "RdBu_r"
    if seen.min() > 0 and seen.max() > 10 * seen.min():
        return LogNorm(seen.min(), seen.max()), "viridis"
    return Normalize(seen.min(), seen.max()), "viridis"


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "none" if value is None else str(value)


def _choice(runs: Runs, name: str) -> str:
    value = next(row[name] for row in runs.rows if row[name] is not None)
    return f'"{name} == {value!r}"'
