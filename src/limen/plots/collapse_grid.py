"""The fraction of independent neurons against what makes noise, and the loss beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from limen.plots.save import format_of, save
from limen.plots.style import GREY, WIDTH, palette, styled

NAMES = {"lr": "learning rate", "label_noise": "label noise", "batch_size": "batch size"}
HEIGHTS = (1.5, 1.0)

Rows = Sequence[Mapping[str, float]]


def collapse_grid(
    rows: Rows,
    axes: Mapping[str, Sequence[float]],
    base: Mapping[str, float],
    path: str | Path | None = None,
    *,
    control: Rows = (),
) -> Figure:
    """Draw mean ± standard deviation over seeds along each axis, the others at `base`, a dot a network.

    Args:
        rows: a network each: its value on each axis, `seed`, `fraction` and `loss`.
        axes: their levels.
        base: the levels of the other axes.
        path: where to write the figure; not written if None.
        control: networks without noise, whose mean is a dotted line.
    """
    if path is not None:
        format_of(Path(path))
    with styled():
        figure = Figure(figsize=(2 * WIDTH, 0.6 + sum(HEIGHTS)), layout="constrained")
        panels = figure.subplots(
            2, len(axes), squeeze=False, sharex="col", sharey="row", height_ratios=HEIGHTS
        )
        for column, axis in enumerate(axes):
            last = column == len(axes) - 1
            here = [row for row in rows if all(row[other] == base[other] for other in axes if other != axis)]
            for panel, quantity in zip(panels[:, column], ("fraction", "loss"), strict=True):
                _draw(panel, here, axis, axes[axis], quantity, control, named=last)
            fixed = ", ".join(f"{NAMES[other]} {base[other]:g}" for other in axes if other != axis)
            panels[0, column].set_title(fixed, color=GREY, fontsize=7)
            panels[1, column].set_xlabel(NAMES[axis])
        panels[0, 0].set_ylabel("independent neurons\n(fraction)")
        panels[0, 0].set_ylim(0, 1.05)
        panels[1, 0].set_ylabel("training loss")
        if path is not None:
            save(figure, Path(path))
    return figure


def _draw(
    panel: Axes,
    rows: Rows,
    axis: str,
    levels: Sequence[float],
    quantity: str,
    control: Rows,
    *,
    named: bool,
) -> None:
    colour, other = palette(2)
    places = np.arange(len(levels))
    means, spreads = [], []
    for place, level in zip(places, levels, strict=True):
        values = np.array([row[quantity] for row in rows if row[axis] == level])
        values = values[np.isfinite(values)]
        panel.plot(np.full(len(values), place), values, color=colour, alpha=0.4, marker=".", linestyle="")
        means.append(values.mean() if len(values) else np.nan)
        spreads.append(values.std(ddof=1) if len(values) > 1 else 0.0)
    panel.errorbar(places, means, yerr=spreads, color=colour, marker="o", markersize=3.5, capsize=1.8)
    if control:
        mean = float(np.mean([row[quantity] for row in control]))
        panel.axhline(mean, color=other, linestyle=":", linewidth=1.0)
        if named and quantity == "fraction":
            panel.text(
                0.03,
                mean - 0.02,
                "no noise, full batch",
                color=other,
                va="top",
                transform=panel.get_yaxis_transform(),
            )
    panel.set_xticks(places, [f"{level:g}" for level in levels])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.margins(x=0.12)
