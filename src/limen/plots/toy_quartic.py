"""The figure of the quartic well."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from limen.plots.style import COLOURS
from limen.plots.toy_parts import BARS, THEORY, Figure, legend, name, panels, shades, threshold, wilson

if TYPE_CHECKING:
    from limen.toys import Outcome


SHOWN = 12
"""Paths drawn a noise level."""

SMALL = BARS | {"markersize": 1.6}


def draw(outcome: Outcome) -> Figure:
    """Draw trajectories, stationary histograms, collapsed fractions and exponents."""
    arrays, mu = outcome.arrays, float(outcome.parameters["mu"])
    bound = float(outcome.parameters["threshold"])
    figure, (paths, histogram, fraction, exponent) = panels(4)

    for zeta, rows, colour in zip(arrays["shown_zeta"], arrays["shown_path"], COLOURS, strict=False):
        paths.plot(arrays["shown_time"], rows[:, :SHOWN], color=colour, linewidth=0.35, alpha=0.8)
        paths.plot([], [], color=colour, label=f"ζ = {zeta:g}")
    for well in (-math.sqrt(mu), math.sqrt(mu)):
        paths.axhline(well, color="black", linewidth=0.6, linestyle="--", zorder=0)
    paths.plot([], [], color="black", linewidth=0.6, linestyle="--", label="±√μ")
    paths.set(xlabel="time", ylabel="θ", xlim=(0, arrays["shown_time"][-1]))
    legend(paths, columns=4, place="upper right")
    name(paths, f"{min(SHOWN, rows.shape[1])} of {rows.shape[1]} paths a noise level, μ = {mu:g}")

    grid = arrays["stationary_grid"]
    for zeta, theta, density, colour in zip(
        *(arrays[f"stationary_{part}"] for part in ("zeta", "theta", "density")), COLOURS, strict=False
    ):
        counts, edges = np.histogram(theta, bins=np.linspace(grid[0], grid[-1], 61))
        height, middle = counts / len(theta) / np.diff(edges), 0.5 * (edges[1:] + edges[:-1])
        bars = wilson(counts / len(theta), len(theta)) / np.diff(edges)
        histogram.errorbar(middle, height, bars, color=colour, **SMALL)
        histogram.plot(grid, density, color=colour, **THEORY, label=f"ζ = {zeta:.3g}")
    histogram.set(xlabel="θ", ylabel="density", ylim=(0, 1.3 * math.sqrt(1.5 / mu)))
    legend(histogram)
    name(histogram, "stationary: histogram (dots, 3σ), theory (lines)")

    late = [i for i, t in enumerate(arrays["time"]) if t > 0]
    for i, colour in zip(late, shades(len(late)), strict=True):
        measured = arrays["fraction"][i]
        bars = wilson(measured, int(outcome.parameters["paths"]))
        fraction.errorbar(arrays["zeta"], measured, bars, color=colour, **SMALL)
        fraction.plot(
            arrays["zeta"],
            arrays["fraction_theory"][i],
            color=colour,
            **THEORY,
            label=f"t = {arrays['time'][i]:g}",
        )
    threshold(fraction, bound, "ζ = √(2μ)")
    fraction.set(xlabel="noise ζ", ylabel="collapsed fraction", ylim=(-0.03, 1.03))
    legend(fraction, place="upper left")
    name(fraction, "θ² < 10⁻³⁰: simulation (dots, 3σ), theory (lines)")

    exponent.errorbar(
        arrays["zeta"],
        arrays["exponent"],
        3 * arrays["exponent_error"],
        color=COLOURS[0],
        **SMALL,
        label="measured, 3σ",
    )
    exponent.plot(
        arrays["zeta"], arrays["exponent_theory"], color=COLOURS[1], **THEORY, zorder=4, label="μ − ζ²/2"
    )
    exponent.plot(
        arrays["zeta"],
        arrays["exponent_euler"],
        color="black",
        linewidth=0.8,
        linestyle="--",
        zorder=5,
        label="of Euler's steps",
    )
    threshold(exponent, bound, "ζ = √(2μ)")
    exponent.axhline(0, color="black", linewidth=0.5, zorder=0)
    exponent.set(xlabel="noise ζ", ylabel="exponent of |θ| at 0")
    legend(exponent)
    return figure
