"""The panels of a figure: loss, accuracy, Hessian eigenvalues, distance to the flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter

from limen.analysis import Array
from limen.plots.thin import thin
from limen.plots.trace import ACCURACIES, DISTANCES, LOOKS, LOSSES, NEURONS, Trace

SPARSE = 250
"""Measurements up to which each gets a dot of its own."""

HEADROOM = 2.0
"""How far above its start or its threshold the curve of a diverged run is followed."""

HAIRLINE = 1.7
"""Width in points of the edges of a band, of which the curve's own line covers half."""

FAR = 5.0
"""How far above the greatest eigenvalue a threshold may lie and still be drawn to scale."""


def _loss(panel: Axes, traces: Sequence[Trace]) -> None:
    shown = _lines(panel, traces, LOSSES)
    bound = _frame(panel, shown, [float(values[0]) for _, values in shown])
    inside = np.concatenate([values[values <= bound] for _, values in shown])
    if inside.min() > 0 and inside.max() > 10 * inside.min():
        panel.set_yscale("log")
        if np.isfinite(bound):  # the margins of a linear axis are none of a logarithmic one
            panel.set_ylim(inside.min() / 1.2, bound)
    panel.set_ylabel("loss")


def _accuracy(panel: Axes, traces: Sequence[Trace]) -> None:
    _lines(panel, traces, ACCURACIES)
    panel.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    panel.set_ylabel("accuracy")


def _lines(panel: Axes, traces: Sequence[Trace], names: tuple[str, str]) -> list[tuple[Trace, Array]]:
    """Draw the training and the test curve of each run, and return what was drawn."""
    shown = []
    for trace in traces:
        for name, look in zip(names, LOOKS.values(), strict=True):
            if name in trace.curves:
                x, y = trace.curves[name].column(0)
                shown.append((trace, y))
                dots: dict[str, Any] = {"marker": "o", "markersize": 2.5} if len(x) == 1 else {}
                panel.plot(*thin(x, y), color=trace.colour, **look, **dots)
    return shown


def _eigenvalues(panel: Axes, traces: Sequence[Trace]) -> None:
    shown = []
    for trace in traces:
        if "eigs" in trace.curves:
            shown += _spectrum(panel, trace)
    ceiling = FAR * max(float(values.max()) for _, values in shown)
    thresholds = {trace.run.threshold: trace.colour for trace in traces if trace.run.threshold is not None}
    near = {value: colour for value, colour in thresholds.items() if value <= ceiling}
    for value, colour in near.items():
        panel.axhline(value, color=colour, linestyle=":", linewidth=1.0, zorder=1.5)
    _frame(panel, shown, [*near, *(float(values[0]) for _, values in shown)])
    _name_thresholds(panel, thresholds, near)
    several = any(trace.curves["eigs"].columns.shape[1] > 1 for trace in traces if "eigs" in trace.curves)
    panel.set_ylabel("Hessian eigenvalues" if several else "sharpness")


def _spectrum(panel: Axes, trace: Trace) -> list[tuple[Trace, Array]]:
    """Draw the eigenvalues of a run, the lower the paler, and return what was drawn."""
    eigenvalues = trace.curves["eigs"]
    count = eigenvalues.columns.shape[1]
    shown = []
    for index in reversed(range(count)):  # the top one lies above the others
        x, y = eigenvalues.column(index)
        if not len(x):
            continue
        shown.append((trace, y))
        alpha = 1.0 if index == 0 else max(0.25, 0.6 - 0.35 * (index - 1) / max(count - 2, 1))
        dots: dict[str, Any] = (
            {"marker": "o", "markersize": 1.8, "markeredgewidth": 0.0} if len(x) <= SPARSE else {}
        )
        panel.plot(*thin(x, y), color=trace.colour, alpha=alpha, linewidth=0.6, **dots)
    return shown


def _name_thresholds(panel: Axes, thresholds: dict[float, str], near: dict[float, str]) -> None:
    """Write each threshold right of its dotted line, close ones apart; one far above gets an arrow."""
    low, high = panel.get_ylim()
    panel.set_ylim(low, high)
    heights = [(value - low) / (high - low) if value in near else 1.0 for value in thresholds]
    for (value, colour), height in zip(thresholds.items(), _apart(heights, gap=0.085), strict=True):
        text = f"{value:.4g}" if value in near else f"↑{value:.4g}"
        panel.text(1.015, height, text, color=colour, transform=panel.transAxes, va="center", ha="left")


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Return the heights moved until neighbours are `gap` apart, or as far as the panel, from 0 to 1, has room."""
    gap = min(gap, 1 / max(len(heights) - 1, 1))
    placed = list(heights)
    free = -np.inf
    for index in np.argsort(heights, kind="stable"):
        placed[index] = max(heights[index], free)
        free = placed[index] + gap
    room = 1.0
    for index in reversed(np.argsort(heights, kind="stable")):  # none above the panel
        placed[index] = min(placed[index], room)
        room = placed[index] - gap
    return placed


def _frame(panel: Axes, shown: Sequence[tuple[Trace, Array]], marks: Sequence[float]) -> float:
    """Let diverged runs leave through the top rather than press all others flat, and return where.

    The height is `HEADROOM` x the largest of `marks`, and no less than what the other runs need; all of
    `marks` lie inside.
    """
    tame = [float(values.max()) for trace, values in shown if not trace.diverged]
    bound = max([HEADROOM * max(np.abs(marks)), *tame])
    inside = np.concatenate([values[values <= bound] for _, values in shown])
    if all(values.max() <= bound for _, values in shown) or not inside.size:
        return float(np.inf)
    least = min(float(inside.min()), *marks)
    panel.set_ylim(least - 0.05 * (bound - least), bound)
    return float(bound)


def _distance(panel: Axes, traces: Sequence[Trace]) -> None:
    ceiling, lines = 0.0, []
    for trace in traces:
        for curve in (trace.curves[name] for name in DISTANCES if name in trace.curves):
            moved = curve.column(3)[1]
            ceiling = max(ceiling, FAR * float(moved.max(initial=0.0)))
            lines.append((trace.colour, *curve.column(0)))
        if "estimated_distance" in trace.curves:
            curve = trace.curves["estimated_distance"]
            band(panel, curve.x, curve.columns[:, 1], curve.columns[:, 2], trace.colour)
    logarithmic(panel, lines, ceiling or np.inf)
    panel.set_ylabel("distance to flow")


def _neurons(panel: Axes, traces: Sequence[Trace]) -> None:
    """Draw the fraction of independent neurons, on the whole of its range."""
    (name,) = NEURONS
    for trace in traces:
        if name in trace.curves:
            x, y = trace.curves[name].column(0)
            dots: dict[str, Any] = {"marker": "o", "markersize": 1.8} if len(x) <= SPARSE / 5 else {}
            panel.plot(*thin(x, y), color=trace.colour, **dots)
    panel.set_ylim(0, 1.05)
    panel.set_ylabel("independent neurons")


def band(panel: Axes, x: Array, low: Array, high: Array, colour: str) -> None:
    """Shade what lies between two curves where both are finite and positive, and be it a hairline beside the curve."""
    seen = np.isfinite(x) & np.isfinite(high) & (low > 0)
    if (high[seen] > low[seen]).any():
        panel.fill_between(x[seen], low[seen], high[seen], color=colour, alpha=0.25, linewidth=HAIRLINE)


def logarithmic(
    panel: Axes,
    lines: Sequence[tuple[str, Array, Array]],
    ceiling: float = np.inf,
    *,
    always: bool = False,
    **look: Any,
) -> None:
    """Draw curves (colour, abscissae, values), zeros left out, as far up as `ceiling` and a decade of them at least.

    The axis is logarithmic where they cover a decade or are cut off, or `always`.
    """
    least = min((float(y[y > 0].min()) for _, _, y in lines if (y > 0).any()), default=0.0)
    ceiling = max(ceiling, 10 * least)
    inside = np.zeros(0)
    for colour, x, y in lines:
        positive = y > 0
        if not positive.any():
            continue
        dots: dict[str, Any] = {"marker": "o", "markersize": 1.8} if positive.sum() <= SPARSE / 5 else {}
        panel.plot(*thin(x[positive], y[positive]), color=colour, **{**dots, **look})
        inside = np.concatenate([inside, y[positive & (y <= ceiling)]])
    cut = any((y > ceiling).any() for _, _, y in lines)
    if inside.size and (always or cut or inside.max() > 10 * inside.min()):
        panel.set_yscale("log")
    if cut:  # the margin below as well: that of the whole curve is too great
        panel.set_ylim(panel.dataLim.minposy / 1.5, ceiling)
    if panel.get_yscale() == "log":
        _name_decades(panel)


def _name_decades(panel: Axes) -> None:
    """Label the decades, and their thirds where there are few; matplotlib would label all of nine."""
    low, high = panel.get_ylim()
    if high < 300 * low:
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        panel.yaxis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))
    panel.yaxis.set_minor_formatter(NullFormatter())


Panel = tuple[tuple[str, ...], Callable[[Axes, Sequence[Trace]], None], float]
PANELS: tuple[Panel, ...] = (
    (LOSSES, _loss, 1.25),
    (ACCURACIES, _accuracy, 1.1),
    (NEURONS, _neurons, 1.1),
    (("eigs",), _eigenvalues, 1.55),
    (DISTANCES, _distance, 1.1),
)
"""Names that a panel shows, how, and its height in inches."""
