"""The fraction of independent neurons of each layer: mean ± standard deviation over replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from limen.errors import InputError
from limen.plots.save import format_of, save
from limen.plots.style import GREY, WIDTH, palette, styled


def layers(
    fractions: Mapping[str, Sequence[Mapping[str, float]]], path: str | Path | None = None, *, title: str = ""
) -> Figure:
    """Draw a curve for each setting over the layers, in their order.

    Args:
        fractions: by the name of a setting (empty if there is one), its replicates; each has, by the name of a layer,
            the fraction of its neurons that are independent.
        path: where to write the figure; not written if None.
        title: above it.

    Raises:
        InputError: replicates differ in their layers, or there is nothing to draw.
        StoreError: the file cannot be written.
    """
    if path is not None:
        format_of(Path(path))
    names = [list(one) for replicates in fractions.values() for one in replicates]
    if not names or not names[0]:
        raise InputError("no layer to draw: name a network with hidden neurons.")
    if any(other != names[0] for other in names):
        raise InputError(
            "the networks have different layers, and one figure needs the same: draw them one by one."
        )
    places = np.arange(len(names[0]))
    with styled():
        width = max(WIDTH, 0.16 * len(places) + 0.8)
        figure = Figure(figsize=(width, 2.0), layout="constrained")
        panel = figure.subplots()
        for (name, replicates), colour in zip(fractions.items(), palette(len(fractions)), strict=True):
            values = np.array([list(one.values()) for one in replicates])
            mean = values.mean(axis=0)
            spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros_like(mean)
            count = f"{len(values)} replicates, ± std" if len(values) > 1 else ""
            label = ": ".join(text for text in (name, count) if text)
            panel.errorbar(
                places,
                mean,
                yerr=spread if len(values) > 1 else None,
                color=colour,
                marker="o",
                markersize=3,
                capsize=1.8,
                label=label,
            )
        panel.set_ylim(0, 1.05)
        panel.set_ylabel("independent neurons (fraction)")
        panel.set_xticks(places, names[0], rotation=90 if len(places) > 6 else 0)
        panel.margins(x=0.04)
        if title:
            figure.suptitle(title, color=GREY)
        if any(label for label in panel.get_legend_handles_labels()[1]):
            figure.legend(loc="outside lower center")
        if path is not None:
            save(figure, Path(path))
    return figure
