"""Figures over many runs: which runs belong together, and which figure shows what is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure

from limen.catalogue.runs import Runs
from limen.errors import InputError, nearest
from limen.plots.labels import SPEAKING, TITLE, WATCHING
from limen.plots.save import format_of, save
from limen.plots.style import GREY, styled

REPLICATES = "seed"
"""The word in which replicates differ."""

EDGE = "edge"
OVER = ("finished", "diverged")
"""States of the runs that are drawn; the others' last value is not that of their end."""

RATIOS = (EDGE, "sharpness/threshold")
"""Quantities that are 1 at the edge of stability."""

TRAINING = ("train", "finetune")
"""Commands that measure by `probes`, and of which a study is mostly not of sharpness."""

NAMES = {EDGE: "sharpness / threshold", "sharpness/threshold": "last sharpness / threshold"}

Row = Mapping[str, Any]


def over(
    runs: Runs,
    axes: Sequence[str],
    path: str | Path | None = None,
    *,
    quantity: str = EDGE,
    x: Literal["step", "time"] = "step",
) -> Figure:
    """Draw runs over what differs between them; those that differ in the seed alone are replicates.

    Runs that have neither finished nor diverged (running, interrupted, failed) are left out; the heading says how many.

    One axis: the quantity against it, mean ± standard deviation over replicates. Two: a heat map of the mean. With
    `seed` among them: mean ± standard deviation of the loss, the accuracy and sharpness / threshold over training.

    Args:
        runs: as `limen.open_runs(path, also=[quantity])` gives them.
        axes: words of the spec.
        path: where to write the figure, as PNG, PDF or SVG by its suffix; not written if None.
        quantity: a column of the catalogue, or an expression that the runs were opened with. The default, `edge`, is
            the mean of sharpness / threshold over the last quarter of its measurements.
        x: abscissa of curves over training.

    Returns:
        The figure, one column (3.5 inches) wide.

    Raises:
        InputError: an axis is no word of these runs, there are too many, no run is over, or none has the quantity.
        StoreError: the file cannot be written.
    """
    from limen.plots.study_axis import against
    from limen.plots.study_heat import heat
    from limen.plots.study_mean import means

    if path is not None:
        format_of(Path(path))
    if not len(runs):
        raise InputError("no run to draw.")
    given, runs = len(runs), replace(runs, rows=[row for row in runs.rows if row["status"] in OVER])
    if not len(runs):
        raise InputError(
            f"none of these {given} runs has finished or diverged; `limen ls` says how they stand."
        )
    words = [name for name, kind in runs.kinds.items() if kind != "value"]
    for axis in axes:
        if axis not in words:
            raise InputError(
                f"over: no word {axis!r} in the specs of these runs.{_meant(axis, words, runs.differing)} "
                f"They differ in: {', '.join(runs.differing) or 'nothing'}."
            )
    chosen = [axis for axis in axes if axis != REPLICATES]
    draw: Callable[[], Figure]
    if REPLICATES in axes:
        draw = lambda: means(runs, x)  # noqa: E731
    elif len(chosen) == 1:
        draw = lambda: against(runs, chosen[0], quantity)  # noqa: E731
    elif len(chosen) == 2 and chosen[0] != chosen[1]:
        draw = lambda: heat(runs, (chosen[0], chosen[1]), quantity)  # noqa: E731
    else:
        raise InputError(f"over: expected one word, two, or {REPLICATES}, got {', '.join(axes)!r}.")
    with styled():
        figure = draw()
        if len(runs) < given:
            left = f"{given - len(runs)} of {given} runs left out: not finished"
            figure.suptitle("\n".join(filter(None, [figure.get_suptitle(), left])), color=GREY)
        if path is not None:
            save(figure, Path(path))
    return figure


def _meant(axis: str, words: Sequence[str], differing: Sequence[str]) -> str:
    """Return `` Did you mean 'optimizer.sgd.lr'?`` for `lr`: a word that ends so, one that differs before others."""
    ends = [word for word in (*differing, *words) if word.endswith(f".{axis}")]
    return f" Did you mean {ends[0]!r}?" if ends else nearest(axis, words)


def others(runs: Runs, axes: Sequence[str]) -> list[str]:
    """Return the words, besides `axes` and the seed, in which the trajectories of these runs differ."""
    aside = {*axes, REPLICATES, "command"}
    found = [name for name in runs.differing if name not in aside and name not in WATCHING]
    return sorted(found, key=lambda name: TITLE.index(name) if name in TITLE else len(TITLE))


def grouped(rows: Sequence[Row], words: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    """Return the rows by their values of `words`, in order of these values."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in words), []).append(row)
    return dict(sorted(groups.items(), key=lambda item: tuple(map(rank, item[0]))))


def rank(value: Any) -> tuple[int, float, str]:
    """Return a key by which numbers come by size, then texts by spelling; nothing comes first."""
    match value:
        case None:
            return 0, 0.0, ""
        case int() | float():
            return 1, float(value), ""
    return 2, 0.0, str(value)


def label(words: Sequence[str], values: Sequence[Any]) -> str:
    """Return the name of a group."""
    return ", ".join(word(name, value) for name, value in zip(words, values, strict=True))


def word(name: str, value: Any) -> str:
    """Return a word of a spec as a figure says it."""
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return shown if name in SPEAKING else f"{name}={shown}"


def heading(runs: Runs) -> str:
    """Return the words that matter and that all runs share."""
    shared = [name for name in TITLE if name in runs.kinds and name not in runs.differing]
    first = runs.rows[0]
    return ", ".join(word(name, first[name]) for name in shared if first[name] is not None)


def name_of(quantity: str) -> str:
    """Return what an axis says of a quantity."""
    return NAMES.get(quantity, quantity)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation (n - 1 in the denominator; 0 for a single value).

    >>> mean_and_spread([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return float(np.mean(values)), spread


def measured(rows: Sequence[Row], quantity: str) -> list[float]:
    """Return the finite values of a quantity among runs that have finished."""
    found = [row.get(quantity) for row in rows if row["status"] == "finished"]
    return [float(value) for value in found if isinstance(value, (int, float)) and np.isfinite(value)]


def require(runs: Runs, quantity: str) -> None:
    """Refuse to draw a quantity that no run has.

    Raises:
        InputError: there is none.
    """
    if measured(runs.rows, quantity):
        return
    missing = quantity in RATIOS and not any(row.get(quantity) is not None for row in runs.rows)
    trained = any(row.get("command") in TRAINING for row in runs.rows)
    mend = (
        "Draw another, as --quantity train_loss, or run again with --probes.eigs.freq 10."
        if trained
        else "Measure it: run again with --neigs 1 --eig_freq 10."
    )
    how = f" {mend}" if missing else ""
    raise InputError(f"none of these {len(runs)} runs has finished with a finite {quantity!r}.{how}")


def seeds(rows: Sequence[Sequence[Row]]) -> str:
    """Return how many replicates the groups have, in words."""
    counts = sorted({len(group) for group in rows})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
