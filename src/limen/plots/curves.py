"""The figure of a training run: loss, accuracy and the top of the Hessian's spectrum, one above the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from limen.errors import InputError
from limen.plots import labels
from limen.plots.legend import legend
from limen.plots.panels import PANELS
from limen.plots.save import format_of, save
from limen.plots.source import Readable, read
from limen.plots.style import GREY, WIDTH, palette, styled
from limen.plots.trace import ACCURACIES, LOSSES, Trace


def curves(
    runs: Sequence[Readable], path: str | Path | None = None, *, x: Literal["step", "time"] = "step"
) -> Figure:
    """Draw loss, accuracy and Hessian eigenvalues of one or several runs over training.

    Panels for which no run has records are left out. Training is solid, test data dashed and paler. Each
    run's sharpness threshold (2/lr for gradient descent) is dotted, with its value on the right; a thin
    vertical line through all panels marks the first measured step whose top eigenvalue exceeds it. Runs are
    named by what differs between their specs. A diverged run leaves its panel where it exceeds twice
    its start or its threshold. Of a long curve at most 1,600 points are drawn, its extremes among them.

    Args:
        runs: stored runs, overlaid in this order.
        path: where to write the figure, as PNG, PDF or SVG by its suffix; not written if None.
        x: steps, or time in the dynamics' own clock (lr x steps for descent), on the abscissa.

    Returns:
        The figure, one column (3.5 inches) wide; it belongs to no window and no pyplot state.

    Raises:
        InputError: there is no run, a run has no records to draw, or `path` has another suffix.
        StoreError: the file cannot be written.
    """
    if x not in ("step", "time"):
        raise InputError(f"x: expected 'step' or 'time', got {x!r}.")
    if not runs:
        raise InputError("no run to draw: name at least one.")
    if path is not None:
        format_of(Path(path))  # refused before the work, not after
    names = labels.labels(runs) if len(runs) > 1 else [""]
    traces = [
        Trace(run, name, colour, read(run, (*LOSSES, *ACCURACIES, "eigs"), x))
        for run, name, colour in zip(runs, names, palette(len(runs)), strict=True)
    ]
    with styled():
        figure = _draw(traces, x)
        if path is not None:
            save(figure, Path(path))
    return figure


def _draw(traces: Sequence[Trace], x: str) -> Figure:
    recorded = {name for trace in traces for name in trace.curves}
    panels = [(draw, height) for names, draw, height in PANELS if recorded.intersection(names)]
    handles, rows = legend(traces, recorded)
    inches = 0.75 + sum(height for _, height in panels) + 0.14 * rows
    figure = Figure(figsize=(WIDTH, inches), layout="constrained")
    heights = [height for _, height in panels]
    axes: list[Axes] = list(
        figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    )
    for panel, (draw, _) in zip(axes, panels, strict=True):
        draw(panel, traces)
        panel.margins(x=0.02)
    low, high = axes[-1].get_xlim()
    if high - low < 1 and x == "step":  # a run of one step
        axes[-1].set_xlim(low - 0.5, high + 0.5)
    axes[-1].set_xlabel(_abscissa(traces, x))
    axes[-1].xaxis.set_major_locator(MaxNLocator(nbins=5, integer=x == "step"))
    if x == "step":
        axes[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    _mark_crossings(axes, traces)
    figure.align_ylabels(axes)
    if heading := _heading(traces):
        figure.suptitle(fill(heading, 66), color=GREY)
    if handles:
        columns = len(handles) // rows
        figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, handlelength=2.0, columnspacing=1.2
        )
    return figure


def _abscissa(traces: Sequence[Trace], x: str) -> str:
    if x == "step":
        return "step"
    return "time (lr × steps)" if all("lr" in trace.run.spec for trace in traces) else "time"


def _heading(traces: Sequence[Trace]) -> str:
    shared = labels.title([trace.run for trace in traces])
    alone = len(traces) == 1 and traces[0].diverged
    return f"{shared} (diverged)".strip() if alone else shared


def _mark_crossings(axes: Sequence[Axes], traces: Sequence[Trace]) -> None:
    """Draw a vertical line through all panels at each crossing, with its step above the top one."""
    ends: list[float] = []  # of the last label in each row, in widths of the panel
    top = axes[0]
    low, high = top.get_xlim()
    found = [(*trace.crossed, trace.colour) for trace in traces if trace.crossed is not None]
    for place, step, colour in sorted(found):
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
