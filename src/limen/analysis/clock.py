"""Clocks on which runs can be compared: steps, time, and the sharpness gone through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limen.analysis.readable import Array, Readable
from limen.errors import InputError

Clock = Callable[[NDArray[Any], NDArray[Any]], Array]
"""From steps and times of measurements (m,) to their place on the clock (m,), nan where it is not defined."""

Kind = Literal["step", "time", "sharpness"]
CLOCKS: tuple[Kind, ...] = ("step", "time", "sharpness")


def clock(run: Readable, kind: Kind) -> Clock:
    """Return a clock of a run.

    `step`: the step, or tick. `time`: t in the dynamics' own clock (lr x steps for descent). `sharpness`: ∫ S dt from
    the first measured eigenvalue on, without unit: a mode of constant curvature S decays by exp(-∫ S dt) in the
    flow, so that runs on stiff and on flat ground become comparable. S is taken to be linear between measurements,
    across failed (nan) ones too, and the integral is exact for that; before the first finite measurement and after
    the last, the clock is not defined. Error: O(h²) in the spacing h of the measurements.

    Raises:
        InputError: another kind; or `sharpness` of a run without finite eigenvalues at two times.
    """
    match kind:
        case "step":
            return lambda steps, t: np.asarray(steps, dtype=np.float64)
        case "time":
            return lambda steps, t: np.asarray(t, dtype=np.float64)
        case "sharpness":
            knots, sharpness = _sharpness(run)
            return lambda steps, t: integral(knots, sharpness, np.asarray(t, dtype=np.float64))
    raise InputError(f"x: expected one of {', '.join(CLOCKS)}, got {kind!r}.")


def runs_on(run: Readable, kind: Kind) -> bool:
    """Whether a run has recorded what a clock of this kind needs."""
    return kind != "sharpness" or len(_measured(run)[0]) >= 2


def integral(knots: Array, values: Array, at: Array) -> Array:
    """Return the integral from `knots[0]` to each of `at` of the line through `values`; nan outside the knots.

    >>> integral(np.array([0.0, 2.0]), np.array([1.0, 3.0]), np.array([0.0, 1.0, 2.0, 3.0])).tolist()
    [0.0, 1.5, 4.0, nan]
    """
    total = np.concatenate([[0.0], np.cumsum(np.diff(knots) * (values[1:] + values[:-1]) / 2)])
    piece = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    past = at - knots[piece]
    slope = (np.diff(values) / np.diff(knots))[piece]
    found = total[piece] + past * (values[piece] + slope * past / 2)
    return np.where((at >= knots[0]) & (at <= knots[-1]), found, np.nan)


def _sharpness(run: Readable) -> tuple[Array, Array]:
    """Return times and finite top eigenvalues, (m,) each, m at least 2."""
    times, top = _measured(run)
    if len(times) < 2:
        raise InputError(
            f"{run.folder}: ∫ S dt needs the sharpness at two times at least, found {len(times)}. "
            "Measure it: run again with --neigs 1 --eig_freq 10."
        )
    return times, top


def _measured(run: Readable) -> tuple[Array, Array]:
    """Return times and finite top eigenvalues, (m,) each."""
    if "eigs" not in run.names():
        return np.zeros(0), np.zeros(0)
    series = run.series("eigs")
    top = np.asarray(series.values, dtype=np.float64).reshape(len(series.steps), -1)[:, 0]
    return np.asarray(series.t, dtype=np.float64)[np.isfinite(top)], top[np.isfinite(top)]
