"""Panels one above the other on one abscissa, and the crossings marked through all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from limen.plots.style import GREY, WIDTH

Mark = tuple[float, int, str]
"""Where on the abscissa, at which step, and in which colour."""


def stack(heights: Sequence[float], rows: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of one column with panels of these heights (inches) and room for so many rows of legend."""
    figure = Figure(figsize=(WIDTH, 0.75 + sum(heights) + 0.14 * rows), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=list(heights))[:, 0]
    return figure, list(axes)


def finish(
    figure: Figure,
    axes: Sequence[Axes],
    *,
    abscissa: str,
    integer: bool,
    crossings: Iterable[Mark],
    heading: str,
    legend: tuple[Sequence[Line2D], int],
) -> None:
    """Add what all panels share: abscissa, crossings, heading and legend.

    Args:
        figure: as `stack` made it.
        axes: its panels, drawn.
        abscissa: label of the common axis.
        integer: whether only whole numbers lie on it.
        crossings: to be marked.
        heading: above the figure; nothing if empty.
        legend: entries column by column, and the number of rows.
    """
    bottom = axes[-1]
    for panel in axes:
        panel.margins(x=0.02)
    low, high = bottom.get_xlim()
    if high - low < 1 and integer:  # a run of one step
        bottom.set_xlim(low - 0.5, high + 0.5)
    bottom.set_xlabel(abscissa)
    bottom.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=integer))
    if integer:
        bottom.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    _mark(axes, crossings)
    figure.align_ylabels(axes)
    if heading:
        figure.suptitle(fill(heading, 66), color=GREY)
    handles, rows = legend
    if handles:
        figure.legend(
            handles=list(handles),
            loc="outside lower center",
            ncols=len(handles) // rows,
            handlelength=2.0,
            columnspacing=1.2,
        )


def _mark(axes: Sequence[Axes], crossings: Iterable[Mark]) -> None:
    """Draw a vertical line through all panels at each crossing within the axis, with its step above the top one."""
    ends: list[float] = []  # of the last label in each row, in widths of the panel
    top = axes[0]
    low, high = top.get_xlim()
    for place, step, colour in sorted(mark for mark in crossings if low <= mark[0] <= high):
        for panel in axes:
            panel.axvline(place, color=colour, linewidth=0.6, alpha=0.7, zorder=1)
        text = f"step {step:,}"
        half = 0.0095 * len(text)
        centre = min(max((place - low) / (high - low), half), 1 - half)
        row = next((i for i, end in enumerate(ends) if end < centre - half), len(ends))
        ends[row : row + 1] = [centre + half]
        top.annotate(
            text,
            (centre, 1.0),
            (0, 2 + 8 * row),
            xycoords="axes fraction",
            textcoords="offset points",
            color=colour,
            ha="center",
            va="bottom",
            fontsize=6.5,
            annotation_clip=False,
        )
    top.set_xlim(low, high)
