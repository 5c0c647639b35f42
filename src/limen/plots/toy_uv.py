"""The figure of the catapult."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limen.plots.style import COLOURS
from limen.plots.toy_parts import DOTS, THEORY, THRESHOLD, Figure, legend, name, panels, shades, threshold

if TYPE_CHECKING:
    from limen.toys import Outcome

SHOWN = (0.5, 1.5, 2.5, 3.0, 3.5, 3.9)
"""ηλ₀ whose trajectories are drawn."""

STEPS = 60


def draw(outcome: Outcome) -> Figure:
    """Draw losses and sharpness in time, where they come to rest, and the scalar network."""
    arrays, parameters = outcome.arrays, outcome.parameters
    rate = arrays["rate"]
    figure, (loss, sharpness, rest, scalar) = panels(4)
    picked = list(dict.fromkeys(int(np.argmin(np.abs(rate - r))) for r in SHOWN))
    for i, colour in zip(picked, shades(len(picked)), strict=True):
        loss.plot(np.maximum(arrays["loss"][i, :STEPS], 1e-30), color=colour, label=f"{rate[i]:.3g}")
        sharpness.plot(arrays["sharpness"][i, :STEPS], color=colour)
    loss.set_yscale("log")
    loss.set(xlabel="step", ylabel="loss", ylim=(1e-12, None), xlim=(0, STEPS))
    legend(loss, title="ηλ₀", columns=2)
    name(loss, f"f = u·v/√m, m = {parameters['width']}, one start")
    sharpness.axhline(2, **THRESHOLD, label="ηλ = 2")
    sharpness.set(xlabel="step", ylabel="ηλ", ylim=(0, 4.2), xlim=(0, STEPS))
    legend(sharpness)

    for i, r in enumerate(rate):
        values = arrays["final"][i]
        rest.plot(
            np.full(len(values), r), values, color=COLOURS[0], **(DOTS | {"markersize": 1.2}), alpha=0.5
        )
    rest.plot([], [], color=COLOURS[0], **DOTS, label="descent, each seed")
    lazy = np.linspace(0, 2, 50)
    rest.plot(lazy, lazy, color=COLOURS[1], **THEORY, label="lazy limit λ = λ₀")
    rest.axhline(2, **THRESHOLD)
    threshold(rest, 2.0, "2 and 4")
    rest.axvline(4, **THRESHOLD)
    rest.set(xlabel="ηλ₀", ylabel="ηλ at rest", ylim=(0, 2.9))
    legend(rest, place="upper left", columns=3)

    eta = float(parameters["scalar_lr"])
    flow = eta * arrays["flow_sharpness"]
    scalar.plot(flow, eta * arrays["scalar_sharpness"], color=COLOURS[0], **DOTS, label="descent")
    low, high = float(flow.min()), float(flow.max())
    scalar.plot([low, high], [low, high], color=COLOURS[1], **THEORY, label="gradient flow")
    scalar.axhline(2, **THRESHOLD, label="ηS = 2")
    scalar.set(xlabel="ηS of the flow's end, η√((u₀² − v₀²)² + 4s²)", ylabel="ηS at rest")
    legend(scalar, place="upper left")
    name(scalar, f"scalar network ½(uv − s)², s = {parameters['target']:g}, η = {eta:g}")
    return figure
