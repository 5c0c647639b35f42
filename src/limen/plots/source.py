"""What a figure reads: the measurements of a stored run, on the clock that is its abscissa.

Shapes: m measurements, k values each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.analysis import Array, Readable, Series, clock
from limen.analysis.clock import Clock, Kind
from limen.errors import InputError


class Curve:
    """The measurements of one quantity as columns of float64.

    Attributes:
        steps: (m,).
        x: their place on the clock that the figure has on its axis (m,), nan where it is not defined.
        columns: what was measured (m, k); k = 1 for scalars.
    """

    def __init__(self, steps: NDArray[Any], x: Array, values: NDArray[Any]) -> None:
        self.steps, self.x = np.asarray(steps, dtype=np.float64), x
        values = np.asarray(values, dtype=np.float64)
        self.columns = values[:, None] if values.ndim == 1 else values

    def column(self, index: int) -> tuple[Array, Array]:
        """Return abscissae and values of column `index` where both are finite."""
        values = self.columns[:, index]
        finite = np.isfinite(values) & np.isfinite(self.x)
        return self.x[finite], values[finite]


def read(run: Readable, names: Sequence[str], x: Kind) -> dict[str, Curve]:
    """Return those of `names` that the run has with at least one finite value.

    Raises:
        InputError: the run has none of them, or what the clock `x` needs was not measured.
    """
    present = set(run.names())
    place = clock(run, x)
    curves = {name: _curve(run.series(name), place) for name in names if name in present}
    curves = {name: curve for name, curve in curves.items() if np.isfinite(curve.columns).any()}
    if not curves:
        recorded = ", ".join(sorted(present)) or "nothing"
        raise InputError(
            f"{run.folder}: expected records of {', '.join(names[:-1])} or {names[-1]} to draw, "
            f"found {recorded} (status: {run.status}). Run it for at least one step first."
        )
    return curves


def _curve(series: Series, place: Clock) -> Curve:
    return Curve(series.steps, place(series.steps, series.t), series.values)
