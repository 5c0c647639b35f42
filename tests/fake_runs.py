"""Runs made up in memory, as `limen.analysis.Readable` wants them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Recorded:
    """One quantity at steps (m,), times (m,): values (m,) or (m, k)."""

    steps: np.ndarray
    t: np.ndarray
    values: np.ndarray


@dataclass
class FakeRun:
    """A run with these records, in no folder."""

    records: dict[str, Recorded]
    spec: dict[str, Any] = field(default_factory=dict)
    threshold: float | None = None
    status: str = "finished"
    folder: Path = Path("results/a")
    info: dict[str, Any] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Return what was recorded."""
        return list(self.records)

    def series(self, name: str) -> Recorded:
        """Return one record."""
        return self.records[name]
