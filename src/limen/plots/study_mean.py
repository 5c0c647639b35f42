"""Training curves of replicates: mean ± standard deviation over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from limen.analysis import Array, Readable
from limen.catalogue.runs import Runs
from limen.errors import InputError
from limen.plots import study
from limen.plots.legend import arrange, handle
from limen.plots.stack import finish, stack
from limen.plots.style import GREY, palette
from limen.plots.thin import thin
from limen.plots.trace import ACCURACIES, LOOKS, LOSSES
from limen.store import open_run

PANELS: tuple[tuple[tuple[str, ...], str, float], ...] = (
    (LOSSES, "loss", 1.25),
    (ACCURACIES, "accuracy", 1.1),
    (("eigs",), "sharpness / threshold", 1.4),
)


@dataclass(frozen=True)
class Band:
    """One quantity of a group of replicates, (m,) each, at the m measurements that all of them have.

    Attributes:
        x: steps or times.
        mean: over the replicates.
        low: mean - standard deviation, and never below the least replicate: a loss stays positive.
        high: mean + standard deviation.
    """

    x: Array
    mean: Array
    low: Array
    high: Array


def means(runs: Runs, x: Literal["step", "time"]) -> Figure:
    """Draw loss, accuracy and sharpness / threshold, a band for each setting besides the seed.

    A band ends where the first of its replicates does. Runs that diverged are left out, and counted in the legend.

    Raises:
        InputError: no run is left.
    """
    words = study.others(runs, [])
    groups = study.grouped(runs.rows, words)
    bands: list[dict[str, Band]] = []
    names = []
    for values, rows in groups.items():
        alive = [open_run(runs.root / row["run"]) for row in rows if row["status"] != "diverged"]
        found = {name: band for names_, _, _ in PANELS for name in names_ if (band := _band(alive, name, x))}
        counted = f"{len(alive)} seeds" if len(alive) != 1 else "1 seed"
        gone = f", {len(rows) - len(alive)} diverged" if len(rows) > len(alive) else ""
        if found or gone:  # a setting of which nothing is left is named all the same
            bands.append(found)
            names.append(": ".join(text for text in (study.label(words, values), counted + gone) if text))
    present = set().union(*bands) if bands else set()
    panels = [(chosen, title, height) for chosen, title, height in PANELS if present.intersection(chosen)]
    if not panels:
        raise InputError("no replicates to draw: none that has not diverged has records of a loss.")
    colours = palette(len(bands))
    entries = [handle(name, color=colour) for name, colour in zip(names, colours, strict=True)]
    styles = [handle("± std", color=GREY, alpha=0.25, linewidth=5.0)]
    if present.intersection(("test_loss", "test_acc")):
        styles += [handle(kind, color=GREY, **look) for kind, look in LOOKS.items()]
    legend = arrange(entries, styles)
    figure, axes = stack([height for _, _, height in panels], legend[1])
    for panel, (chosen, title, _) in zip(axes, panels, strict=True):
        _draw(panel, bands, colours, chosen)
        panel.set_ylabel(title)
    finish(
        figure,
        axes,
        abscissa="step" if x == "step" else "time (lr × steps)",
        integer=x == "step",
        crossings=[],
        heading=study.heading(runs),
        legend=legend,
    )
    return figure


def _band(runs: Sequence[Readable], name: str, x: Literal["step", "time"]) -> Band | None:
    """Return mean and spread over the runs where all have measured; None where one never has."""
    if not runs or any(name not in run.names() or (name == "eigs" and not run.threshold) for run in runs):
        return None
    found = [run.series(name) for run in runs]
    steps = reduce(np.intersect1d, [series.steps for series in found])
    rows = []
    for run, series in zip(runs, found, strict=True):
        values = np.asarray(series.values, dtype=np.float64).reshape(len(series.steps), -1)[:, 0]
        at = values[np.searchsorted(series.steps, steps)]
        rows.append(at / run.threshold if name == "eigs" and run.threshold else at)
    stacked = np.stack(rows)
    keep = np.isfinite(stacked).all(axis=0)
    if not keep.any():
        return None
    t = np.asarray(found[0].t, dtype=np.float64)[np.searchsorted(found[0].steps, steps)]
    place = t if x == "time" else steps.astype(np.float64)
    stacked = stacked[:, keep]
    mean = stacked.mean(axis=0)
    spread = stacked.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros_like(mean)
    return Band(place[keep], mean, np.maximum(mean - spread, stacked.min(axis=0)), mean + spread)


def _draw(
    panel: Axes, bands: Sequence[dict[str, Band]], colours: Sequence[str], names: Sequence[str]
) -> None:
    seen = []
    for found, colour in zip(bands, colours, strict=True):
        for name, look in zip(names, LOOKS.values(), strict=False):
            if name not in found:
                continue
            band = found[name]
            panel.plot(*thin(band.x, band.mean), color=colour, **look)
            seen.append(band.mean)
            if look["linestyle"] == "-":  # bands of test curves would hide those of training
                panel.fill_between(band.x, band.low, band.high, color=colour, alpha=0.25, linewidth=0)
    if "eigs" in names:
        panel.axhline(1.0, color=GREY, linestyle=":", linewidth=1.0, zorder=1.5)
    together = np.concatenate(seen)
    if names == LOSSES and together.min() > 0 and together.max() > 10 * together.min():
        panel.set_yscale("log")
