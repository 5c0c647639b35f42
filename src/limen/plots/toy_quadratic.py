"""The figure of quadratic regression and of self-stabilisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limen.plots.style import COLOURS
from limen.plots.toy_parts import THRESHOLD, Figure, legend, name, panels, shades

if TYPE_CHECKING:
    from limen.toys import Outcome


def draw(outcome: Outcome) -> Figure:
    """Draw trajectories and resting points of the regression, and the valley in time and in its plane."""
    arrays, parameters = outcome.arrays, outcome.parameters
    figure, (trace, rest, time, plane) = panels(4)
    colours = shades(len(arrays["asymmetry"]))
    for epsilon, row, final, edge, colour in zip(
        *(arrays[key] for key in ("asymmetry", "sharpness", "final", "edge")), colours, strict=True
    ):
        trace.plot(row[:100], color=colour, label=f"ε = {epsilon:g}")
        through = np.sort(final[edge > 0])
        if len(through):
            rest.plot(
                through, np.arange(1, len(through) + 1) / len(through), color=colour, label=f"ε = {epsilon:g}"
            )
    trace.axhline(2, **THRESHOLD, label="2/η")
    trace.set(xlabel="step", ylabel="sharpness ‖J‖²", ylim=(0, 6), xlim=(0, 100))
    legend(trace, columns=2, place="upper right")
    name(trace, "quadratic regression, curvatures 1 and −ε, η = 1")
    rest.axvline(2, **THRESHOLD)
    rest.set(xlabel="sharpness at rest", ylabel="cumulated fraction", xlim=(0, 2.1), ylim=(0, 1.02))
    legend(rest, place="upper left")
    name(rest, "starts that came to rest after being above 2/η")

    lr, drift = float(parameters["lr"]), float(parameters["drift"])
    fixed = np.sqrt(2 * drift)
    for kick, x, y, colour in zip(
        arrays["kick"], arrays["valley_x"], arrays["valley_y"], COLOURS, strict=False
    ):
        shown = np.abs(x)
        time.plot(1 + lr / 2 * y, color=colour, label=f"{kick:g}")
        plane.plot(shown / fixed, y, color=colour, linewidth=0.5)
        # the curve H = const through the start
        grid = np.linspace(max(shown.min() * 0.9, 1e-3), shown.max() * 1.02, 2000)
        energy = x[0] ** 2 / 4 - drift * np.log(np.abs(x[0]))
        square = 2 * (energy - grid**2 / 4 + drift * np.log(grid))
        inside = square >= 0
        for sign in (-1, 1):
            plane.plot(
                grid[inside] / fixed,
                sign * np.sqrt(square[inside]),
                color="black",
                linewidth=0.8,
                linestyle="--",
            )
    time.axhline(1, **THRESHOLD, label="2/η")
    time.set(xlabel="step", ylabel="sharpness · η/2", xlim=(0, len(arrays["valley_y"][0])))
    legend(time, title="kick", columns=4, place="upper right")
    low, high = time.get_ylim()
    time.set_ylim(low, high + 0.4 * (high - low))
    name(time, f"valley that sharpens: η = {lr:g}, α = {drift:g}")
    plane.plot([], [], color="black", linewidth=0.8, linestyle="--", label="H constant (η → 0)")
    plane.plot([1], [0], color="black", marker="+", linestyle="", label="fixed point x² = 2α")
    plane.set(xlabel="|x|/√(2α)", ylabel="sharpness − 2/η")
    legend(plane, place="upper right")
    low, high = plane.get_ylim()
    plane.set_ylim(low, high + 0.4 * (high - low))
    return figure
