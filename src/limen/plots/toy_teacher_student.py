"""The figures of the linear teacher and student."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from limen.plots.style import COLOURS
from limen.plots.toy_parts import BARS, DOTS, THEORY, THRESHOLD, Figure, legend, name, panels, shades

if TYPE_CHECKING:
    from limen.toys import Outcome


def draw(outcome: Outcome) -> Figure:
    """Draw losses, modes in time, ŝ against s before the drop, and the early phases."""
    arrays, parameters = outcome.arrays, outcome.parameters
    sigmas, step = arrays["sigma"], arrays["step"]
    colours = shades(len(sigmas))
    figure, (loss, error, modes, ranks, phase) = panels(5)

    for axes, key, label in ((loss, "train_loss", "training loss"), (error, "test_error", "test error")):
        for sigma, row, colour in zip(sigmas, arrays[key], colours, strict=True):
            axes.plot(step[1:], row[1:], color=colour, label=f"σ = {sigma:g}")
        axes.axvline(parameters["drop_at"], **THRESHOLD, label="lr drop")
        settled = arrays[key][:, step >= step[-1] / 20]
        margin = 0.08 * (settled.max() - settled.min())
        axes.set_ylim(settled.min() - margin, settled.max() + 6 * margin)
        axes.set(xlabel="step", ylabel=label, xlim=(0, step[-1]))
    beside(loss)
    name(loss, f"mean over {parameters['seeds']} seeds, lr {parameters['lr']:g}")

    level = int(np.argmin(np.abs(sigmas - 10)))
    collapse = parameters["collapse_below"][level]
    picked = [
        int(np.argmin(np.abs(arrays["s"] - s))) for s in (1.2, 0.8, 0.5, 0.3, 0.6 * collapse, 0.3 * collapse)
    ]
    picked = list(dict.fromkeys(picked))
    seeds = math.sqrt(parameters["seeds"])
    for mode, colour in zip(picked, shades(len(picked)), strict=True):
        thin = slice(0, None, max(1, len(step) // 40))
        value = arrays["s"][mode]
        if value > collapse + 0.1:
            found, expected, look = arrays["arithmetic"], arrays["theory"][level, :, mode], {"marker": "s"}
            bars = 3 * arrays["theory_scatter"][level, :, mode] / seeds
        else:
            found, look = arrays["geometric"], {"marker": "o"}
            expected = np.exp(arrays["log_theory"][level, :, mode])
            bars = expected * np.sinh(np.minimum(3 * arrays["log_scatter"][level, :, mode] / seeds, 20))
        modes.errorbar(
            step[thin],
            found[level, thin, mode],
            bars[thin],
            color=colour,
            **(BARS | look | {"markersize": 1.8}),
        )
        modes.plot(step, expected, color=colour, **THEORY, label=f"{value:.2f}")
        modes.plot(step, arrays["noise_free"][level, :, mode], color=colour, linestyle="--", linewidth=0.6)
    modes.plot([], [], color="black", linestyle="--", linewidth=0.6, label="noise-free")
    modes.axvline(parameters["drop_at"], **THRESHOLD)
    modes.set_yscale("log")
    modes.set(xlabel="step", ylabel="ŝ", ylim=(1e-6, 3), xlim=(0, step[-1]))
    beside(modes, "s")
    name(modes, f"σ = {sigmas[level]:g}: E ŝ (squares), exp E log ŝ (dots), theory")

    end = int(np.flatnonzero(step == parameters["drop_at"])[0])
    some = np.arange(0, len(arrays["s"]), max(1, len(arrays["s"]) // 16))
    grid = np.linspace(0, arrays["s"].max() * 1.03, 200)
    for i, (sigma, colour, limit) in enumerate(
        zip(sigmas, colours, parameters["collapse_below"], strict=True)
    ):
        ranks.errorbar(
            arrays["s"][some],
            arrays["arithmetic"][i, end, some],
            3 * arrays["error"][i, end, some],
            color=colour,
            **BARS,
            label=f"σ = {sigma:g}",
        )
        ranks.plot(grid, np.maximum(grid - limit, 0), color=colour, **THEORY)
        if limit > 0:
            ranks.axvline(limit, **(THRESHOLD | {"color": colour}), zorder=0)
    ranks.set(xlabel="singular value s of the data", ylabel="mean ŝ", xlim=(0, None))
    beside(ranks)
    name(ranks, "before the drop: 3σ, (s − ½ησ²)₊ (lines), ½ησ² (dotted)")

    for i, (sigma, colour) in enumerate(zip(sigmas, colours, strict=True)):
        phase.errorbar(
            arrays["phase"],
            arrays["phase_error"][i],
            3 * arrays["phase_error_error"][i],
            color=colour,
            **BARS,
            label=f"σ = {sigma:g}",
        )
        phase.plot(arrays["phase"], arrays["phase_theory"][i], color=colour, **THEORY)
    phase.set_xscale("log")
    phase.xaxis.set_major_locator(FixedLocator(arrays["phase"].tolist()))
    phase.xaxis.set_major_formatter(FuncFormatter(lambda value, place: thousands(value)))
    phase.xaxis.set_minor_locator(NullLocator())
    phase.set(xlabel="steps before the learning rate drops", ylabel="final test error", ylim=(0, None))
    tail = parameters["steps"] - parameters["drop_at"]
    name(phase, f"test error {tail} steps after the drop: 3σ, theory (lines)")
    beside(phase)
    return figure


def draw_general(outcome: Outcome) -> Figure:
    """Draw losses over steps and singular values at the end, by batch size."""
    arrays, parameters = outcome.arrays, outcome.parameters
    batches, step = arrays["batch"], arrays["step"]
    colours = shades(len(batches))
    figure, (rate, loss, error, singular) = panels(4)
    for axes in (rate, loss, error):
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: thousands(value)))
    rate.plot(step, arrays["rate"], color="black")
    rate.set(xlabel="step", ylabel="learning rate", xlim=(0, step[-1]))
    for axes, key, label in ((loss, "train_loss", "training loss"), (error, "test_error", "test error")):
        for batch, row, colour in zip(batches, arrays[key], colours, strict=True):
            axes.plot(step[1:], row[1:], color=colour, label=f"{batch:.0f}")
        for at in parameters["drops_at"]:
            axes.axvline(at, **THRESHOLD, zorder=0)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="step", ylabel=label, xlim=(0, step[-1]))
    beside(loss, "batch size")
    name(loss, "learning-rate drops dotted")
    rank = np.arange(1, arrays["singular"].shape[-1] + 1)
    for row, colour in zip(arrays["singular"][:, -1], colours, strict=True):
        singular.plot(rank, np.maximum(row, 1e-12), color=colour, **(DOTS | {"markersize": 1.8}))
    singular.plot(
        rank[: len(arrays["teacher"])], arrays["teacher"][::-1], color=COLOURS[1], **THEORY, label="teacher"
    )
    singular.axvline(len(arrays["teacher"]) + 0.5, **THRESHOLD, label="rank of the teacher")
    singular.set_yscale("log")
    singular.set(xlabel="rank", ylabel="singular values of VU")
    legend(singular)
    return figure


def beside(axes: Axes, title: str = "") -> None:
    """Add a legend to the right of a panel, off its lines."""
    axes.legend(
        title=title or None,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        fontsize=6,
        title_fontsize=6,
        handlelength=1.2,
        labelspacing=0.3,
    )


def thousands(value: float) -> str:
    """Return a number of steps in few letters.

    >>> thousands(20000), thousands(500)
    ('20k', '500')
    """
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
