"""The figure of the quartic well."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from limen.plots.style import COLOURS
from limen.plots.toy_parts import BARS, DOTS, THEORY, Array, Figure, legend, name, panels, shades, threshold

if TYPE_CHECKING:
    from limen.toys import Outcome


def draw(outcome: Outcome) -> Figure:
    """Draw trajectories, stationary histograms, collapsed fractions and exponents."""
    arrays, mu = outcome.arrays, float(outcome.parameters["mu"])
    bound = float(outcome.parameters["threshold"])
    figure, (paths, histogram, fraction, exponent) = panels(4)

    for zeta, rows, colour in zip(arrays["shown_zeta"], arrays["shown_path"], COLOURS, strict=False):
        paths.plot(arrays["shown_time"], rows[:, :8], color=colour, linewidth=0.35, alpha=0.8)
        paths.plot([], [], color=colour, label=f"ζ = {zeta:g}")
    for well in (-math.sqrt(mu), math.sqrt(mu)):
        paths.axhline(well, color="black", linewidth=0.6, linestyle="--", zorder=0)
    paths.plot([], [], color="black", linewidth=0.6, linestyle="--", label="±√μ")
    paths.set(xlabel="time", ylabel="θ", xlim=(0, arrays["shown_time"][-1]))
    legend(paths, columns=4, place="upper right")
    name(paths, f"8 paths a noise level, μ = {mu:g}")

    for zeta, theta, colour in zip(
        arrays["stationary_zeta"], arrays["stationary_theta"], COLOURS, strict=False
    ):
        counts, edges = np.histogram(theta, bins=np.linspace(-3, 3, 61))
        height = counts / counts.sum() / np.diff(edges)
        histogram.plot(0.5 * (edges[1:] + edges[:-1]), height, color=colour, **DOTS)
        grid = np.linspace(-3, 3, 2001)[1::2]
        histogram.plot(grid, _density(grid, mu, float(zeta)), color=colour, **THEORY, label=f"ζ = {zeta:g}")
    histogram.set(xlabel="θ", ylabel="density", ylim=(0, 1.3))
    legend(histogram)
    name(histogram, "stationary: histogram (dots), theory (lines)")

    late = [i for i, t in enumerate(arrays["time"]) if t > 0]
    for i, colour in zip(late, shades(len(late)), strict=True):
        fraction.plot(arrays["zeta"], arrays["fraction"][i], color=colour, **DOTS)
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
    name(fraction, "θ² < 10⁻³⁰: simulation (dots), theory (lines)")

    exponent.errorbar(
        arrays["zeta"],
        arrays["exponent"],
        3 * arrays["exponent_error"],
        color=COLOURS[0],
        **(BARS | {"markersize": 1.6}),
        label="measured, 3σ",
    )
    exponent.plot(
        arrays["zeta"], arrays["exponent_theory"], color=COLOURS[1], **THEORY, zorder=4, label="μ − ζ²/2"
    )
    threshold(exponent, bound, "ζ = √(2μ)")
    exponent.axhline(0, color="black", linewidth=0.5, zorder=0)
    exponent.set(xlabel="noise ζ", ylabel="exponent of |θ| at 0")
    legend(exponent)
    return figure


def _density(theta: Array, mu: float, zeta: float) -> Array:
    """Return ∝ |θ|^{2μ/ζ² − 2} e^{−θ²/ζ²}, normalised."""
    shape = mu / zeta**2 - 0.5
    logs = (2 * shape - 1) * np.log(np.abs(theta) / zeta) - theta**2 / zeta**2 - math.lgamma(shape)
    out: Array = np.exp(logs) / zeta
    return out
