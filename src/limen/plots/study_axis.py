"""A quantity against one word of the spec: over the learning rate, the edge of stability as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

from limen.catalogue.runs import Runs
from limen.plots import study
from limen.plots.legend import arrange, handle
from limen.plots.stack import stack
from limen.plots.study import Row
from limen.plots.style import GREY, palette

HOLLOW: dict[str, Any] = {"markerfacecolor": "white"}


def against(runs: Runs, axis: str, quantity: str) -> Figure:
    """Draw mean ± standard deviation of a quantity over replicates against `axis`, a colour for each other setting.

    Of quantities that are 1 at the edge, a hollow point has a replicate that never crossed the threshold. Runs that
    diverged are crosses at the top, and enter no mean.
    """
    study.require(runs, quantity)
    words = study.others(runs, [axis])
    groups = study.grouped(runs.rows, words)
    places = _places(runs.rows, axis)
    colours = palette(len(groups))
    points = [study.grouped(rows, [axis]) for rows in groups.values()]
    entries, styles = [], []
    for values, colour in zip(groups, colours, strict=True):
        if len(groups) > 1:
            entries.append(handle(study.label(words, values), color=colour, marker="o", markersize=3.5))
    drawn = [rows for group in points for rows in group.values()]
    styles += _styles(drawn, quantity, colours[0] if len(groups) == 1 else GREY)
    handles, rows_of_legend = arrange(entries, styles)
    figure, (panel,) = stack([2.0], rows_of_legend)
    logarithmic = _frame(panel, runs.rows, axis, places, quantity)
    for group, colour in zip(points, colours, strict=True):
        _curve(panel, group, places, quantity, colour, logarithmic=logarithmic)
    if quantity in study.RATIOS:
        panel.axhline(1.0, color=GREY, linestyle=":", linewidth=1.0, zorder=1.5)
    panel.set_xlabel(axis)
    panel.set_ylabel(study.name_of(quantity))
    finish(figure, handles, rows_of_legend, study.heading(runs))
    return figure


def finish(figure: Figure, handles: Sequence[Line2D], rows: int, heading: str) -> None:
    """Add heading and legend."""
    if heading:
        figure.suptitle(heading, color=GREY)
    if handles:
        columns = len(handles) // rows
        figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, columnspacing=1.2)


def _places(rows: Sequence[Row], axis: str) -> dict[Any, float]:
    """Return where on the abscissa each value lies: numbers where they are, words side by side."""
    values = sorted({row[axis] for row in rows}, key=study.rank)
    if all(isinstance(value, (int, float)) for value in values):
        return {value: float(value) for value in values}
    return {value: float(index) for index, value in enumerate(values)}


def _frame(panel: Axes, rows: Sequence[Row], axis: str, places: dict[Any, float], quantity: str) -> bool:
    """Set the kind of both axes, and return whether the ordinate is logarithmic."""
    numbers = all(isinstance(value, (int, float)) for value in places)
    at = np.array(list(places.values()))
    if not numbers:
        panel.set_xticks(at, ["none" if value is None else str(value) for value in places])
        panel.margins(x=0.15)
    elif at.min() > 0 and at.max() > 5 * at.min():
        panel.set_xscale("log")
        plain_decades(panel.xaxis, float(at.min()), float(at.max()))
    values = np.array(study.measured(rows, quantity))
    logarithmic = bool(quantity not in study.RATIOS and values.min() > 0 and values.max() > 10 * values.min())
    if logarithmic:
        panel.set_yscale("log")
    return logarithmic


def plain_decades(axis: Any, low: float, high: float) -> None:
    """Label 1, 2, 5 of each decade where there are few, else the decades."""
    if high < 1000 * low:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axis.set_major_formatter(LogFormatterSciNotation())
    axis.set_minor_formatter(NullFormatter())


def _curve(
    panel: Axes,
    group: dict[tuple[Any, ...], list[Row]],
    places: dict[Any, float],
    quantity: str,
    colour: str,
    *,
    logarithmic: bool,
) -> None:
    x, y, spreads, hollow, lost = [], [], [], [], []
    for (value,), rows in group.items():
        found = study.measured(rows, quantity)
        if any(row["status"] == "diverged" for row in rows):
            lost.append(places[value])
        if found:
            mean, spread = study.mean_and_spread(found)
            x.append(places[value])
            y.append(mean)
            spreads.append((min(spread, mean - min(found)) if logarithmic else spread, spread))
            hollow.append(not _crossed(rows) and quantity in study.RATIOS)
    panel.errorbar(
        x,
        y,
        yerr=np.array(spreads).reshape(-1, 2).T,
        color=colour,
        linewidth=0.6,
        elinewidth=0.8,
        capsize=1.8,
    )
    looks: tuple[tuple[dict[str, Any], bool], ...] = ((HOLLOW, True), ({}, False))
    for look, chosen in looks:
        picked = [index for index, open_ in enumerate(hollow) if open_ == chosen]
        panel.plot(
            [x[index] for index in picked],
            [y[index] for index in picked],
            color=colour,
            linestyle="",
            marker="o",
            markersize=3.5,
            markeredgewidth=0.8,
            zorder=3,
            **look,
        )
    high = panel.get_xaxis_transform()
    panel.plot(
        lost, [0.97] * len(lost), transform=high, color=colour, linestyle="", marker="x", markersize=4.5
    )


def _crossed(rows: Sequence[Row]) -> bool:
    return all(row["crossing"] is not None for row in rows if row["status"] != "diverged")


def _styles(points: Sequence[Sequence[Row]], quantity: str, colour: str) -> list[Line2D]:
    """Return the entries of the legend that say what the marks mean; only those that occur."""
    entries = []
    alive = [rows for rows in points if study.measured(rows, quantity)]
    point: dict[str, Any] = {"color": colour, "linestyle": "", "marker": "o", "markersize": 3.5}
    if quantity in study.RATIOS:
        if any(_crossed(rows) for rows in alive):
            entries.append(handle("reached the threshold", **point))
        if any(not _crossed(rows) for rows in alive):
            entries.append(handle("not yet", **point, **HOLLOW))
    if any(row["status"] == "diverged" for rows in points for row in rows):
        entries.append(handle("diverged", color=colour, linestyle="", marker="x", markersize=4.5))
    if any(len(rows) > 1 for rows in alive):
        bar = handle(f"± std, {study.seeds(alive)} seeds", color=colour, linestyle="", marker="|")
        bar.set_markersize(7)
        entries.append(bar)
    return entries
