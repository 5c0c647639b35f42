"""The figure of a departure: how far a run has come from another in weights, outputs and loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from limen.analysis import Apart, Array, Readable, crossing
from limen.errors import InputError
from limen.plots import labels
from limen.plots.legend import arrange, handle
from limen.plots.panels import band, logarithmic
from limen.plots.save import format_of, save
from limen.plots.stack import finish, stack
from limen.plots.style import GREY, palette, styled

MOVED: dict[str, Any] = {"linestyle": (0, (3, 1.2)), "linewidth": 0.8}
"""Look of the displacement."""


def departure(apart: Apart, run: Readable, path: str | Path | None = None) -> Figure:
    """Draw the distance of a run from another against time, on logarithmic axes.

    Three panels, those without records left out: ‖w − w'‖, with its 95 % band where it is estimated, beside the
    displacement ‖w' − w₀‖ of the other (dashed), with which it has to be compared; ‖f(w) − f(w')‖ on the training
    set; and |L(w) − L(w')|. The first measured crossing of the threshold is marked in all. The first panel
    ends at five times the displacement, or a decade above the least distance if that is more.

    Args:
        apart: the distance, as `limen.analysis` finds it.
        run: the run whose distance it is.
        path: where to write the figure, as PNG, PDF or SVG by its suffix; not written if None.

    Returns:
        The figure, one column (3.5 inches) wide.

    Raises:
        InputError: no distance is finite and positive, or `path` has another suffix.
        StoreError: the file cannot be written.
    """
    if path is not None:
        format_of(Path(path))
    if not (np.isfinite(apart.distance) & (apart.distance > 0)).any():
        raise InputError(f"{run.folder}: no distance to draw; it is 0 or not finite at every common time.")
    with styled():
        figure = _draw(apart, run)
        if path is not None:
            save(figure, Path(path))
    return figure


def _draw(apart: Apart, run: Readable) -> Figure:
    colour = palette(1)[0]
    below = [
        (name, np.abs(values))
        for name, values in (("‖f − f'‖", apart.outputs), ("|L − L'|", apart.loss_gap))
        if values is not None and (np.isfinite(values) & (values != 0)).any()
    ]
    first = crossing(run)
    if first is not None and not apart.t[0] <= first.t <= apart.t[-1]:
        first = None  # beyond the axis
    styles = [handle(f"to the {apart.reference}", color=colour)]
    if apart.banded:
        styles.append(handle("95 % band", color=colour, alpha=0.25, linewidth=5.0))
    styles.append(handle(f"displacement of the {apart.reference}", color=GREY, **MOVED))
    if first is not None:
        styles.append(handle("crossing", color=colour, linestyle="", marker="|", markersize=7))
    entries = arrange([], styles)
    figure, axes = stack([1.6, *(1.0 for _ in below)], entries[1])
    _weights(axes[0], apart, colour)
    for panel, (name, values) in zip(axes[1:], below, strict=True):
        logarithmic(panel, [_finite(colour, apart.t, values)])
        panel.set_ylabel(name)
    # from the first common time on, though a distance of 0 has no place on a logarithmic axis
    axes[0].update_datalim([(float(t), 1.0) for t in apart.t[[0, -1]]], updatey=False)
    finish(
        figure,
        axes,
        abscissa="time (lr × steps)" if "lr" in run.spec else "time",
        integer=False,
        crossings=[] if first is None else [(first.t, first.step, colour)],
        heading=labels.title([run]),
        legend=entries,
    )
    return figure


def _weights(panel: Axes, apart: Apart, colour: str) -> None:
    moved = _finite(GREY, apart.t, apart.displacement)
    ceiling = 5 * float(moved[2].max(initial=0.0)) or np.inf
    logarithmic(panel, [moved], **MOVED)
    if apart.banded:
        band(panel, apart.t, apart.low, apart.high, colour)
    logarithmic(panel, [_finite(colour, apart.t, apart.distance)], ceiling, always=True)
    panel.set_ylabel("‖w − w'‖")


def _finite(colour: str, x: Array, y: Array) -> tuple[str, Array, Array]:
    seen = np.isfinite(y)
    return colour, x[seen], y[seen]
