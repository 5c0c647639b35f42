"""What a figure reads: the part of a stored run that plots depend on.

Shapes: m measurements, k values each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from limen.errors import InputError

Array = NDArray[np.float64]


class Series(Protocol):
    """One recorded quantity: `steps` (m,), times `t` (m,), `values` (m,) or (m, k)."""

    @property
    def steps(self) -> NDArray[Any]:
        """Step of each measurement, increasing (m,)."""

    @property
    def t(self) -> NDArray[Any]:
        """Time of each measurement in the dynamics' own clock (m,)."""

    @property
    def values(self) -> NDArray[Any]:
        """What was measured, (m,) or (m, k)."""


class Readable(Protocol):
    """A run as it lies in its folder; `limen.store` gives such objects, and tests may give others."""

    @property
    def folder(self) -> Path:
        """Where the run lies."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """The words that describe it; empty for a run made from Python."""

    @property
    def status(self) -> str:
        """How it stands: running, finished, diverged, interrupted or failed."""

    @property
    def threshold(self) -> float | None:
        """Sharpness above which its rule is unstable on a quadratic, if there is one."""

    def names(self) -> Sequence[str]:
        """Return the names of what was recorded."""

    def series(self, name: str) -> Series:
        """Return the records of `name`."""


class Curve:
    """The measurements of one quantity as columns of float64.

    Attributes:
        steps: (m,).
        x: steps or times, whichever the figure has on its axis (m,).
        columns: what was measured (m, k); k = 1 for scalars.
    """

    def __init__(self, series: Series, x: str) -> None:
        self.steps = np.asarray(series.steps, dtype=np.float64)
        self.x = self.steps if x == "step" else np.asarray(series.t, dtype=np.float64)
        values = np.asarray(series.values, dtype=np.float64)
        self.columns = values[:, None] if values.ndim == 1 else values

    def column(self, index: int) -> tuple[Array, Array]:
        """Return abscissae and values of column `index` where the value is finite."""
        values = self.columns[:, index]
        finite = np.isfinite(values)
        return self.x[finite], values[finite]


def read(run: Readable, names: Sequence[str], x: str) -> dict[str, Curve]:
    """Return those of `names` that the run has with at least one finite value.

    Raises:
        InputError: the run has none of them.
    """
    present = set(run.names())
    curves = {name: Curve(run.series(name), x) for name in names if name in present}
    curves = {name: curve for name, curve in curves.items() if np.isfinite(curve.columns).any()}
    if not curves:
        recorded = ", ".join(sorted(present)) or "nothing"
        raise InputError(
            f"{run.folder}: expected records of {', '.join(names[:-1])} or {names[-1]} to draw, "
            f"found {recorded} (status: {run.status}). Run it for at least one step first."
        )
    return curves


def crossing(eigenvalues: Curve, threshold: float | None) -> int | None:
    """Return the index of the first measurement whose top eigenvalue exceeds the threshold, if one does."""
    if threshold is None:
        return None
    above = np.flatnonzero(eigenvalues.columns[:, 0] > threshold)
    return int(above[0]) if above.size else None
