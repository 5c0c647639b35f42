"""Random projections of the parameters, from which distances between runs can be estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from limen.errors import InputError, nearest
from limen.linalg.projection import gaussian_projection, sketch_projection
from limen.types import Memory, Need, Objective, Point, Probe, Schedule, State, Value

PROJECTIONS = {"gaussian": gaussian_projection, "sketch": sketch_projection}


@dataclass(frozen=True)
class Iterates(Probe):
    """Records `iterates` = P w (nproj,), with the same random P for every run of one size.

    Attributes:
        nproj: how many projections.
        schedule: the steps it looks at.
        projection: "gaussian", the published numbers (time O(nproj p)), or "sketch", sparse and norm-preserving
            (time O(p)); both take O(p) memory.
    """

    nproj: int
    schedule: Schedule = Schedule(1)
    projection: Literal["gaussian", "sketch"] = "gaussian"
    name = "iterates"
    need = Need.NOTHING

    def __post_init__(self) -> None:
        if self.projection not in PROJECTIONS:
            known = ", ".join(PROJECTIONS)
            raise InputError(
                f"unknown projection {self.projection!r}.{nearest(self.projection, PROJECTIONS)} There are: {known}."
            )

    def init(self, objective: Objective) -> Memory:
        """Check the number of projections."""
        if self.nproj < 1:
            raise InputError(f"nproj must be at least 1, got {self.nproj}.")
        return {}

    def describe(self) -> dict[str, Any]:
        """Return its settings."""
        return super().describe() | {"nproj": self.nproj, "projection": self.projection}

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        """Project the parameters."""
        return {"iterates": PROJECTIONS[self.projection](state.w, self.nproj)}, memory


def make(
    *, nproj: int = 10, freq: int = 1, projection: Literal["gaussian", "sketch"] = "gaussian"
) -> Iterates:
    """Return the probe with `nproj` projections, looking every `freq` steps."""
    return Iterates(nproj, Schedule(freq), projection)
