"""The figure of the two neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from limen.plots.style import COLOURS
from limen.plots.toy_parts import BARS, THEORY, Figure, legend, name, panels, shades

if TYPE_CHECKING:
    from limen.toys import Outcome


def draw(outcome: Outcome) -> Figure:
    """Draw ‖w₁ − w₂‖² for both sweeps, and the exponents."""
    arrays, parameters = outcome.arrays, outcome.parameters
    count = len(parameters["lrs"])
    figure, (by_lr, by_sigma, exponent) = panels(3, 1.75)
    seeds = arrays["distance"].shape[1]

    def curves(axes: object, rows: range, label: str, values: object) -> None:
        for row, colour, value in zip(rows, shades(len(rows)), values, strict=True):  # type: ignore[call-overload]
            stayed = f"{arrays['stayed'][row]:.0f} of {seeds}"
            kept = np.maximum(arrays["distance"][row], 1e-32)
            axes.plot(arrays["step"], kept.T, color=colour, linewidth=0.3, alpha=0.45)  # type: ignore[attr-defined]
            middle = np.exp(np.median(np.log(kept), axis=0))
            axes.plot(arrays["step"], middle, color=colour, linewidth=1.1, label=f"{value:g}, {stayed}")  # type: ignore[attr-defined]

    curves(by_lr, range(count), "lr", parameters["lrs"])
    curves(by_sigma, range(count, len(arrays["lr"])), "σ", parameters["sigmas"])
    for axes, fixed in ((by_lr, f"σ = {parameters['sigma']:g}"), (by_sigma, f"lr = {parameters['lr']:g}")):
        axes.set_yscale("log")
        axes.set(xlabel="step", ylabel="‖w₁ − w₂‖²", ylim=(1e-30, 20), xlim=(0, arrays["step"][-1]))
        name(axes, f"{fixed}: {seeds} seeds (thin), their median (thick)")

    for axes, label in ((by_lr, "lr"), (by_sigma, "σ")):
        axes.legend(
            title=f"{label}, seeds that stayed",
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            borderaxespad=0,
            fontsize=6,
            title_fontsize=6,
            handlelength=1.2,
        )

    groups = (
        (slice(0, count), "σ = " + f"{parameters['sigma']:g}"),
        (slice(count, None), f"lr = {parameters['lr']:g}"),
    )
    for (rows, label), colour, marker in zip(groups, COLOURS, "os", strict=False):
        noise = arrays["lr"][rows] * arrays["sigma"][rows]
        drawn = np.isfinite(arrays["exponent"][rows]) & (noise > 0)
        order = np.argsort(noise)
        order = order[noise[order] > 0]
        theory = -arrays["exponent_theory"][rows]
        exponent.plot(noise[order], theory[order], color=colour, **THEORY)
        exponent.errorbar(
            noise[drawn],
            -arrays["exponent"][rows][drawn],
            3 * arrays["exponent_error"][rows][drawn],
            color=colour,
            **(BARS | {"marker": marker}),
            label=f"runs, {label}, 3σ",
        )
    exponent.plot([], [], color="black", **THEORY, label="linearised about the set")
    exponent.set_xscale("log")
    exponent.set_yscale("log")
    exponent.xaxis.set_major_locator(FixedLocator([0.01, 0.02, 0.04, 0.08]))
    exponent.xaxis.set_major_formatter("{x:g}")
    exponent.xaxis.set_minor_locator(NullLocator())
    exponent.set(xlabel="lr · σ", ylabel="decay of ‖w₁ − w₂‖² a step")
    legend(exponent, place="upper left")
    return figure
