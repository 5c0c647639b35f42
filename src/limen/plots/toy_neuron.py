"""The figure of the single neuron."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limen.plots.style import COLOURS
from limen.plots.toy_parts import BARS, THEORY, Figure, legend, name, panels, shades, threshold, wilson

if TYPE_CHECKING:
    from limen.toys import Outcome

POINTS = 200
"""End points drawn a learning rate."""


def draw(outcome: Outcome) -> Figure:
    """Draw the landscape with end points, the dead fraction and the exponents."""
    arrays, bound = outcome.arrays, outcome.parameters["threshold"]
    figure, (plane, fraction, exponent) = panels(3, 1.9)

    landscape = arrays["landscape"]
    levels = np.geomspace(landscape.min() * 1.02, landscape.max(), 14)
    plane.contour(arrays["grid"], arrays["grid"], landscape, levels=levels, colors="#aaaaaa", linewidths=0.4)
    for eta, points, colour, marker in zip(arrays["end_eta"], arrays["end_w"], COLOURS, "o^s", strict=False):
        plane.plot(
            points[:POINTS, 0],
            points[:POINTS, 1],
            color=colour,
            linestyle="",
            marker=marker,
            markersize=2,
            markeredgewidth=0,
            alpha=0.6,
            label=f"η = {eta:.3g}",
        )
    plane.set(xlabel="w₁", ylabel="w₂", xlim=(-3.5, 3.5), ylim=(-3.5, 3.5))
    legend(plane, place="upper left")
    name(plane, f"loss (contours), end points at t = {arrays['time'][-1]:g}")

    times = arrays["time"]
    count = int(outcome.parameters["paths"])
    for t, row, colour in zip(times, arrays["fraction"], shades(len(times)), strict=True):
        fraction.errorbar(arrays["eta"], row, wilson(row, count), color=colour, **BARS, label=f"t = {t:g}")
    fraction.set(xlabel="learning rate η (noise ηζ²)", ylabel="P(‖w‖ < 0.01)", ylim=(-0.03, 1.03))
    name(fraction, "dead neurons, simulated, 3σ")

    exponent.errorbar(
        arrays["eta"],
        arrays["exponent"],
        3 * arrays["exponent_error"],
        color=COLOURS[0],
        **(BARS | {"markersize": 1.6}),
        label="measured, 3σ",
    )
    exponent.plot(
        arrays["eta"],
        arrays["exponent_theory"],
        color=COLOURS[1],
        **THEORY,
        zorder=4,
        label="σ'(0)⟨xy⟩ − ½ηζ²σ'(0)²⟨x²⟩",
    )
    exponent.axhline(0, color="black", linewidth=0.5, zorder=0)
    exponent.set(xlabel="learning rate η (noise ηζ²)", ylabel="exponent of ‖w‖ at 0")
    if bound is not None:
        threshold(fraction, float(bound), "threshold")
        threshold(exponent, float(bound), "threshold")
    legend(fraction)
    legend(exponent)
    return figure
