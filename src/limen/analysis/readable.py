"""What is read of a stored run; `limen.store` gives such objects, and tests may give others.

Shapes: m measurements, k values each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

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
    """A run as it lies in its folder."""

    @property
    def folder(self) -> Path:
        """Where the run lies."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """The words that describe it; empty for a run made from Python."""

    @property
    def info(self) -> Mapping[str, Any]:
        """What was noted beside the words when it was made: batches, versions, device."""

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


MOMENTUM = ("polyak", "nesterov")
"""Rules whose velocity adds up gradients to 1/(1 − β) times their length."""


def is_flow(run: Readable) -> bool:
    """Whether the run is a gradient flow by its own words."""
    return run.spec.get("command") == "flow"


def momentum(run: Readable) -> float:
    """Return β of a run with momentum by its own words, else 0."""
    return float(run.spec.get("beta") or 0.0) if run.spec.get("opt") in MOMENTUM else 0.0
