"""The figure of training runs: loss, accuracy, the top of the Hessian's spectrum, and the distance to the flow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from limen.analysis import CLOCKS, Apart, Readable, clock, obstacle, projected, recorded
from limen.analysis.clock import Kind, runs_on
from limen.analysis.readable import is_flow, momentum
from limen.errors import InputError
from limen.plots import labels
from limen.plots.branch import Branch
from limen.plots.legend import legend
from limen.plots.panels import PANELS
from limen.plots.save import format_of, save
from limen.plots.source import Curve, read
from limen.plots.stack import finish, stack
from limen.plots.style import palette, styled
from limen.plots.trace import ACCURACIES, LOSSES, NEURONS, Trace, crossed


def curves(
    runs: Sequence[Readable],
    path: str | Path | None = None,
    *,
    x: Kind | None = None,
    distance: bool | None = None,
) -> Figure:
    """Draw loss, accuracy and Hessian eigenvalues of one or several runs over training.

    Panels for which no run has records are left out. Training is solid, test data dashed and paler. Each
    run's sharpness threshold (2/lr for gradient descent) is dotted, with its value on the right; a thin
    vertical line through all panels marks the first measured step whose top eigenvalue exceeds it. Runs are
    named by what differs between their specs. A diverged run leaves its panel where it exceeds twice
    its start or its threshold. Of a long curve at most 1,600 points are drawn, its extremes among them.

    A run with the collapse probe has a panel with the fraction of its neurons that are independent: beside loss and
    accuracy after the learning rate has dropped, this is the figure of Chen et al. (2023).

    Where descent is drawn with its flow, a last panel has the distance ‖w − w'‖ between them at equal times: exact for
    a run made with --track_flow, whose flow joins the figure by itself, else estimated from projected iterates,
    with its 95 % band. It goes up to five times the displacement of the flow. Descent with momentum has none: at equal
    times it is not beside its flow.

    Args:
        runs: stored runs, overlaid in this order.
        path: where to write the figure, as PNG, PDF or SVG by its suffix; not written if None.
        x: steps, time in the dynamics' own clock (lr x steps for descent), or the sharpness gone through, ∫ S dt, on
            the abscissa. By default time where a flow is drawn, else steps. A flow beside a run is drawn at the run's
            steps, and left out on a clock for which it has no records.
        distance: whether to draw the distance to the flow; by default where it is known.

    Returns:
        The figure, one column (3.5 inches) wide; it belongs to no window and no pyplot state.

    Raises:
        InputError: there is no run, a run has no records to draw, the distance is asked for and not known, descent
            and a flow of its own are asked for over steps, or `path` has another suffix.
        StoreError: the file cannot be written.
    """
    if x is not None and x not in CLOCKS:
        raise InputError(f"x: expected {', '.join(map(repr, CLOCKS[:-1]))} or {CLOCKS[-1]!r}, got {x!r}.")
    if not runs:
        raise InputError("no run to draw: name at least one.")
    if path is not None:
        format_of(Path(path))  # refused before the work, not after
    flows = [is_flow(run) for run in runs]
    if x == "step" and any(flows) and not all(flows):
        raise InputError(
            "x: a flow counts ticks and descent counts steps, which have no common axis. "
            "Take --x time, or --x sharpness where eigenvalues were measured."
        )
    shown = _with_branches(runs, x)
    kind: Kind = x or ("time" if any(is_flow(run) for run in shown) else "step")
    apart = {} if distance is False else _distances(shown, required=bool(distance))
    names = labels.labels(shown) if len(shown) > 1 else [""]
    traces = [
        _trace(run, name, colour, kind, apart.get(index))
        for index, (run, name, colour) in enumerate(zip(shown, names, palette(len(shown)), strict=True))
    ]
    with styled():
        figure = _draw(traces, kind)
        if path is not None:
            save(figure, Path(path))
    return figure


def _with_branches(runs: Sequence[Readable], x: Kind | None) -> list[Readable]:
    """Return the runs, and the flow that one of them has beside it, unless a flow is named or the clock x lacks it."""
    tracked = [Branch(run) for run in runs if "flow/train_loss" in run.names()]
    alone = len(tracked) == 1 and not any(is_flow(run) for run in runs)
    return [*runs, *(branch for branch in tracked if alone and runs_on(branch, x or "time"))]


def _distances(runs: Sequence[Readable], *, required: bool) -> dict[int, Apart]:
    """Return by index the distance of each descent to its flow, where it is known."""
    flows = [run for run in runs if is_flow(run)]
    found, missing = {}, []
    for index, run in enumerate(runs):
        if is_flow(run):
            continue
        if "flow/distance" in run.names() and not momentum(run):
            found[index] = recorded(run, "flow")
            continue
        reasons = [obstacle(run, flow) for flow in flows]
        if None in reasons:
            found[index] = projected(run, flows[reasons.index(None)])
        missing += [reason for reason in reasons if reason]
    if required and not found:
        raise InputError(
            missing[0] if missing else "no distance to draw: name a descent and its flow, with iterates."
        )
    return found


def _trace(run: Readable, label: str, colour: str, x: Kind, apart: Apart | None) -> Trace:
    found = read(run, (*LOSSES, *ACCURACIES, *NEURONS, "eigs"), x)
    place = clock(run, x)
    if apart is not None:
        bounds = [apart.distance, apart.low, apart.high, apart.displacement]
        distance = Curve(apart.steps, place(apart.steps, apart.t), np.stack(bounds, axis=1))
        found["estimated_distance" if apart.banded else "distance"] = distance
    return Trace(run, label, colour, found, crossed(run, place))


def _draw(traces: Sequence[Trace], x: Kind) -> Figure:
    present = {name for trace in traces for name in trace.curves}
    panels = [(draw, height) for names, draw, height in PANELS if present.intersection(names)]
    entries = legend(traces, present)
    figure, axes = stack([height for _, height in panels], entries[1])
    for panel, (draw, _) in zip(axes, panels, strict=True):
        draw(panel, traces)
    finish(
        figure,
        axes,
        abscissa=_abscissa(traces, x),
        integer=x == "step",
        crossings=[(*trace.crossed, trace.colour) for trace in traces if trace.crossed is not None],
        heading=_heading(traces),
        legend=entries,
    )
    return figure


def _abscissa(traces: Sequence[Trace], x: Kind) -> str:
    flows = [is_flow(trace.run) for trace in traces]
    descents = [flow or "lr" in trace.run.spec for flow, trace in zip(flows, traces, strict=True)]
    if x == "sharpness":
        return "∫S dt"
    if x == "step":
        return "tick" if all(flows) else "step"
    if all(flows) or not all(descents):
        return "time"
    return "time (descent: lr × steps)" if any(flows) else "time (lr × steps)"


def _heading(traces: Sequence[Trace]) -> str:
    shared = labels.title([trace.run for trace in traces])
    alone = len(traces) == 1 and traces[0].diverged
    return f"{shared} (diverged)".strip() if alone else shared
