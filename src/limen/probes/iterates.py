"""Random projections of the parameters, from which distances between runs can be estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from limen.errors import InputError
from limen.linalg.projection import gaussian_projection
from limen.types import Memory, Need, Objective, Point, Probe, Schedule, State, Value


@dataclass(frozen=True)
class Iterates(Probe):
    """Records `iterates` = P w (nproj,), with the published Gaussian P, the same for every run of one size.

    Attributes:
        nproj: how many projections.
        schedule: the steps it looks at.
    """

    nproj: int
    schedule: Schedule = Schedule(1)
    name = "iterates"
    need = Need.NOTHING

    def init(self, objective: Objective) -> Memory:
        """Check the number of projections."""
        if self.nproj < 1:
            raise InputError(f"nproj must be at least 1, got {self.nproj}.")
        return {}

    def describe(self) -> dict[str, Any]:
        """Return its settings."""
        return super().describe() | {"nproj": self.nproj}

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        """Project the parameters."""
        return {"iterates": gaussian_projection(state.w, self.nproj)}, memory


def make(*, nproj: int = 10, freq: int = 1) -> Iterates:
    """Return the probe with `nproj` projections, looking every `freq` steps."""
    return Iterates(nproj, Schedule(freq))
