"""The legend below the panels, where no curve is."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from matplotlib.lines import Line2D

from limen.plots import labels
from limen.plots.style import GREY
from limen.plots.trace import LOOKS, Trace

CHARACTERS = 60
"""Width of a figure in characters of the legend."""

SAMPLE = 7
"""Width of a sample of line and the gaps beside it, in the same characters."""


def legend(traces: Sequence[Trace], recorded: set[str]) -> tuple[list[Line2D], int]:
    """Return the entries column by column, as matplotlib wants them, and the number of rows.

    First come the runs, then, on a row of their own, the styles of line.
    """
    several = len(traces) > 1
    runs = (
        [handle(fill(_name(trace), CHARACTERS - SAMPLE), color=trace.colour) for trace in traces]
        if several
        else []
    )
    colour = GREY if several else traces[0].colour
    styles = []
    if recorded.intersection(("test_loss", "test_acc")):
        styles += [handle(kind, color=colour, **look) for kind, look in LOOKS.items()]
    if "eigs" in recorded and (
        formulas := {labels.threshold(t.run) for t in traces if t.run.threshold is not None}
    ):
        name = " ".join(["threshold", *(formulas if len(formulas) == 1 else ())])
        styles.append(handle(name, color=colour, linestyle=":", linewidth=1.0))
    if any(trace.crossed is not None for trace in traces):
        styles.append(handle("crossing", color=colour, linestyle="", marker="|", markersize=7))
    if "estimated_distance" in recorded:
        styles.append(handle("95 % band", color=colour, alpha=0.25, linewidth=5.0))
    return arrange(runs, styles)


def arrange(runs: Sequence[Line2D], styles: Sequence[Line2D]) -> tuple[list[Line2D], int]:
    """Return the entries column by column, as many in a row as fit, each group on rows of its own; and the rows."""
    in_a_row = max(len(runs), len(styles), 1)
    while in_a_row > 1 and _width(runs, in_a_row, styles) > CHARACTERS:
        in_a_row -= 1
    rows = [group[i : i + in_a_row] for group in (runs, styles) for i in range(0, len(group), in_a_row)]
    blank = handle("", linestyle="")
    columns = [row[i] if i < len(row) else blank for i in range(in_a_row) for row in rows]
    return columns, len(rows)


def _width(runs: Sequence[Line2D], in_a_row: int, styles: Sequence[Line2D]) -> int:
    """Return the characters a row takes: of each column the longest label, and what stands before it."""
    lengths = [[len(str(handle.get_label())) for handle in group] for group in (runs, styles)]
    columns = [[n for group in lengths for n in group[i::in_a_row]] for i in range(in_a_row)]
    return sum(max(column, default=0) + SAMPLE for column in columns)


def _name(trace: Trace) -> str:
    return f"{trace.label} (diverged)" if trace.diverged else trace.label


def handle(label: str, **look: Any) -> Line2D:
    """Return an entry with this look."""
    return Line2D([], [], label=label, **look)
