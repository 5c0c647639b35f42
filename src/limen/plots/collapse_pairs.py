"""What the Lyapunov exponent of pairs of neurons predicts, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from limen.plots.save import format_of, save
from limen.plots.style import GREY, WIDTH, palette, styled

FLOOR = 1e-12
"""Ratios below this are drawn at it."""


def collapse_pairs(
    pairs: Sequence[Mapping[str, Any]], path: str | Path | None = None, *, apart: float
) -> Figure:
    """Draw 2‖a−b‖²/(‖a‖²+‖b‖²) of each pair at the end against its exponent, ± its standard error.

    Args:
        pairs: `inputs`, `label_noise`, `exponent`, `error` and `ratio` of each.
        path: where to write the figure; not written if None.
        apart: the ratio that all began with, a dotted line.
    """
    if path is not None:
        format_of(Path(path))
    kinds = list(dict.fromkeys((pair["inputs"], pair["label_noise"]) for pair in pairs))
    with styled():
        figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        panel = figure.subplots()
        for (inputs, noise), colour in zip(kinds, palette(len(kinds)), strict=True):
            some = [pair for pair in pairs if (pair["inputs"], pair["label_noise"]) == (inputs, noise)]
            panel.errorbar(
                [pair["exponent"] for pair in some],
                [max(pair["ratio"], FLOOR) for pair in some],
                xerr=[pair["error"] for pair in some],
                color=colour,
                linestyle="",
                marker="o",
                markersize=3,
                elinewidth=0.6,
                label=f"{inputs} inputs, noise {noise:g}",
            )
        panel.set_yscale("log")
        panel.axhline(apart, color=GREY, linestyle=":", linewidth=1.0, zorder=1)
        panel.axvline(0, color=GREY, linestyle=":", linewidth=1.0, zorder=1)
        panel.set_xlabel("Lyapunov exponent a step")
        panel.set_ylabel("2‖a−b‖² / (‖a‖²+‖b‖²) at the end")
        figure.legend(loc="outside lower center", ncols=2)
        if path is not None:
            save(figure, Path(path))
    return figure
