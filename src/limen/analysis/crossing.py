"""When the sharpness first exceeds the threshold of the rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limen.analysis.readable import Readable


@dataclass(frozen=True)
class Crossing:
    """The first measurement above the threshold.

    Attributes:
        step: its step.
        t: its time, in the dynamics' own clock.
        sharpness: the top eigenvalue there.
    """

    step: int
    t: float
    sharpness: float


def crossing(run: Readable) -> Crossing | None:
    """Return the first measured crossing; None if there is none, no threshold or no eigenvalues."""
    if run.threshold is None or "eigs" not in run.names():
        return None
    series = run.series("eigs")
    top = np.asarray(series.values, dtype=np.float64).reshape(len(series.steps), -1)[:, 0]
    above = np.flatnonzero(top > run.threshold)
    if not above.size:
        return None
    first = int(above[0])
    return Crossing(int(series.steps[first]), float(series.t[first]), float(top[first]))
