"""Noise drives neurons to collapse: a grid over learning rate, label noise and batch size.

Trains 4 × 4 × 4 settings × 3 seeds = 192 small convolutional networks (two tanh convolutions and a hidden layer, 56
hidden units) by SGD without momentum, weight decay 1e-4, for 16,000 steps each, on 500 of the digits: is a digit 5 or
more? Counts the independent neurons at the end, and draws their fraction against each axis, the other two at their base
values (lr .3, label noise .1, batch size 4), with the final training loss below. Three networks without label noise on
the full batch at the base rate are the control: they see no noise.

Command: limen recipe collapse

Writes grid.csv, a row a network; grid.png; and prints Spearman's rank correlation of the fraction with each axis,
pooled over seeds, at the base values and as the median over all 16 strata of the other axes.

Cost: nine and a half minutes of processor time, in two processes.

The first run (seeds 0, 1, 2; benchmarks/results/collapse-grid.csv) fell short of the +0.8 expected of the batch size by
.01: after 16,000 steps batches of 2 and of 4 have collapsed alike. A second run was then fixed, before it was made, at
12,000 steps and seeds 3, 4, 5: recipe(steps=12_000, seeds=(3, 4, 5), name="shorter"). It gave -.98, -.89 and +.93
(benchmarks/results/collapse-grid-shorter.csv). docs/collapse.md says all.

The task has two classes since the noise of two logits has one direction: of noise in many directions at once a
neuron's norm grows as well as shrinks. Levels were chosen from runs at seeds from 100 on, before the first run of the
grid at seeds 0, 1, 2. Beyond them the effect turns round: label noise of .4, or a rate of .8, keeps all neurons.

Source: Chen, Kunin, Yamamura and Ganguli, Stochastic Collapse, NeurIPS 2023, Section 6, in small.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limen.analysis.ranks import spearman
from limen.config import results_root
from limen.errors import InputError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from limen.collapse.side_by_side import Setting

DATASETS = ("digits",)

LR = (0.1, 0.2, 0.3, 0.4)
LABEL_NOISE = (0.0, 0.02, 0.05, 0.1)
BATCH_SIZE = (2, 4, 8, 16)
SEEDS = (0, 1, 2)
BASE = {"lr": 0.3, "label_noise": 0.1, "batch_size": 4}
STEPS = 16_000
WEIGHT_DECAY = 1e-4
IMAGES = 500
FULL = 500
"""Batch size of the control."""

AXES: dict[str, tuple[float, ...]] = {"lr": LR, "label_noise": LABEL_NOISE, "batch_size": BATCH_SIZE}
COLUMNS = (
    *("lr", "label_noise", "batch_size", "seed", "fraction"),
    *("independent_conv1", "independent_conv2", "independent_hidden"),
    *("vanished_conv1", "vanished_conv2", "vanished_hidden"),
    *("effective_rank_conv1", "effective_rank_conv2", "effective_rank_hidden", "loss", "accuracy"),
)

Row = dict[str, float]


def recipe(
    dataset: str = "digits",
    *,
    results: str | None = None,
    data_dir: str | None = None,
    quiet: bool = False,
    processes: int = 2,
    steps: int = STEPS,
    seeds: Sequence[int] = SEEDS,
    name: str = "grid",
) -> list[Path]:
    """Train the grid and the control, write the table and draw it; return the path of the figure.

    Args:
        dataset: "digits".
        results: folder of results (default: $RESULTS, else results).
        data_dir: not used; digits come with limen.
        quiet: print nothing.
        processes: how many train at a time.
        steps: of each network.
        seeds: of its networks.
        name: of the files.

    Raises:
        InputError: another data set.
    """
    from limen.plots.collapse_grid import collapse_grid

    if dataset not in DATASETS:
        raise InputError(f"dataset: expected digits, got {dataset!r}.{nearest(dataset, DATASETS)}")
    begun = time.perf_counter()
    folder = results_root(results) / "recipes" / "collapse"
    rows = run([*grid(seeds), *control(seeds)], processes=processes, steps=steps)
    write(rows, folder / f"{name}.csv")
    collapse_grid(on_grid(rows), AXES, BASE, folder / f"{name}.png", control=off_grid(rows))
    if not quiet:
        print("\n".join(said(rows)))
        print(f"{len(rows)} networks in {time.perf_counter() - begun:.0f} s, {processes} processes")
    return [folder / f"{name}.png"]


def grid(seeds: Sequence[int] = SEEDS) -> list[Setting]:
    """Return the settings, large batches first: they take longest."""
    from limen.collapse.side_by_side import Setting

    return [
        Setting(lr, noise, size, seed)
        for size, lr, noise, seed in itertools.product(reversed(BATCH_SIZE), LR, LABEL_NOISE, seeds)
    ]


def control(seeds: Sequence[int] = SEEDS) -> list[Setting]:
    """Return the networks without any noise: full batch, true labels, the base rate."""
    from limen.collapse.side_by_side import Setting

    return [Setting(BASE["lr"], 0.0, FULL, seed) for seed in seeds]


def images() -> tuple[Tensor, Tensor]:
    """Return 500 digits (500, 1, 8, 8), shifted to be positive and of mean square 1; and whether each is 5 or more."""
    from limen.data import load

    data = load("digits")
    shifted = data.inputs - data.inputs.min()
    scaled = shifted / shifted.square().mean().sqrt()
    return scaled[:IMAGES].float(), (data.targets[:IMAGES] >= 5).long()


def run(settings: Sequence[Setting], *, processes: int = 2, steps: int = STEPS) -> list[Row]:
    """Return a row a network, those of one batch size trained side by side."""
    sizes = sorted({setting.batch_size for setting in settings}, reverse=True)
    parts = [[setting for setting in settings if setting.batch_size == size] for size in sizes]
    if processes == 1:
        found = [_train(part, steps) for part in parts]
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            found = list(pool.map(_train, parts, itertools.repeat(steps)))
    return [row for part in found for row in part]


def _train(settings: Sequence[Setting], steps: int) -> list[Row]:
    import torch

    from limen.collapse.side_by_side import train

    torch.set_num_threads(1)
    found = train(settings, *images(), steps=steps, weight_decay=WEIGHT_DECAY)
    rows = []
    for outcome in found:
        row: Row = {**vars(outcome.setting), "fraction": outcome.fraction}
        for name, layer in itertools.zip_longest(("conv1", "conv2", "hidden"), outcome.layers):
            row[f"independent_{name}"] = layer.independent if layer else math.nan
            row[f"vanished_{name}"] = layer.vanished if layer else math.nan
            row[f"effective_rank_{name}"] = layer.effective_rank if layer else math.nan
        rows.append(row | {"loss": outcome.loss, "accuracy": outcome.accuracy})
    return rows


def on_grid(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the grid."""
    return [row for row in rows if row["batch_size"] != FULL]


def off_grid(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the control."""
    return [row for row in rows if row["batch_size"] == FULL]


def at_base(rows: Sequence[Row], axis: str, base: Mapping[str, float] = BASE) -> list[Row]:
    """Return the rows along an axis, the other two at `base`."""
    return [row for row in rows if all(row[other] == base[other] for other in AXES if other != axis)]


def correlations(rows: Sequence[Row], axis: str) -> tuple[float, float, int]:
    """Return Spearman's ρ of the fraction with an axis, pooled over seeds.

    At the base values of the others; the median over all strata of the others; and in how many strata the fraction is
    constant, whose ρ is taken as 0.
    """
    base = at_base(rows, axis)
    others = [other for other in AXES if other != axis]
    found = []
    for values in itertools.product(*(AXES[other] for other in others)):
        stratum = at_base(rows, axis, dict(zip(others, values, strict=True)))
        found.append(_rho(stratum, axis))
    constant = sum(math.isnan(value) for value in found)
    return _rho(base, axis), float(np.median(np.nan_to_num(found))), constant


def _rho(rows: Sequence[Row], axis: str) -> float:
    known = [row for row in rows if math.isfinite(row["fraction"])]
    return spearman([row[axis] for row in known], [row["fraction"] for row in known])


def ends(rows: Sequence[Row], axis: str) -> tuple[float, float, float]:
    """Return the mean fraction at the two ends of an axis, others at base, and their distance in standard errors."""
    low, high = (
        np.array([row["fraction"] for row in at_base(rows, axis) if row[axis] == end])
        for end in (min(AXES[axis]), max(AXES[axis]))
    )
    error = math.sqrt(sum(x.var(ddof=1) / len(x) for x in (low, high)))
    apart = abs(low.mean() - high.mean())
    return float(low.mean()), float(high.mean()), float(apart / error) if error else math.inf


def said(rows: Sequence[Row]) -> list[str]:
    """Return what the grid says, a line an axis and one for the control."""
    here, still = on_grid(rows), off_grid(rows)
    lines = []
    for axis in AXES:
        rho, median, constant = correlations(here, axis)
        low, high, apart = ends(here, axis)
        lines.append(
            f"{axis}: rho {rho:+.2f} at base, median {median:+.2f} over strata ({constant} constant); "
            f"fraction {low:.3f} to {high:.3f}, {apart:.1f} standard errors apart"
        )
    gone = sum(not math.isfinite(row["fraction"]) for row in here)
    lines.append(f"diverged: {gone} of {len(here)}")
    if still:
        fractions = ", ".join(f"{row['fraction']:.3f}" for row in still)
        losses = ", ".join(f"{row['loss']:.2g}" for row in still)
        lines.append(f"control, no noise: fraction {fractions}; training loss {losses}")
    return lines


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the table as CSV."""
    from limen.store import files

    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow({name: _short(row[name]) for name in COLUMNS})
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, text.getvalue().encode())


def read(path: Path) -> list[Row]:
    """Return the rows of a table that `write` wrote."""
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _short(value: Any) -> str:
    return f"{value:.6g}"
