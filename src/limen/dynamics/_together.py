"""Several dynamics from one start on one clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limen.types import HALTED, Dynamics, HaltError, Info, Objective, Point, State

CLOCK = 1e-9
"""Relative difference below which two times are one: sums of steps round."""


@dataclass(frozen=True)
class Together(Dynamics):
    """A main dynamics and others that keep up with it, each on its own trajectory from the same start.

    After each step of the main one, the others are stepped until none is behind. One whose steps are m times as long
    is at the same time at every m-th step. The others see the full batch. The state of the main one is
    the state; those of the others are in `State.branches`. `slots["path"]` is the length of the main trajectory,
    Σ‖w⁺ − w‖ (float64, 0-dim).

    Where another cannot go on (`HaltError`) it stays behind, its history says why, and the main one goes on alone.

    Attributes:
        main: whose trajectory, clock and threshold are the run's.
        others: by the name of their branch.
    """

    main: Dynamics
    others: Mapping[str, Dynamics]

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the main dynamics."""
        return self.main.name

    @property
    def need(self) -> Any:  # type: ignore[override]
        """What a step of the main dynamics asks of its point."""
        return self.main.need

    @property
    def remedy(self) -> str:  # type: ignore[override]
        """That of the main dynamics."""
        return self.main.remedy

    @property
    def lengthy(self) -> bool:  # type: ignore[override]
        """Whether a step of any of them may take minutes."""
        return self.main.lengthy or any(other.lengthy for other in self.others.values())

    def init(self, objective: Objective, w: Tensor) -> State:
        """Return the state at time 0, every branch at `w` (p,)."""
        state = self.main.init(objective, w)
        path = torch.zeros((), dtype=torch.float64, device=w.device)
        branches = {name: other.init(objective, w) for name, other in self.others.items()}
        return state.replace(slots={**state.slots, "path": path}, branches=branches)

    def step(self, point: Point, state: State) -> tuple[State, Info]:
        """Advance the main dynamics once, and the others until they are not behind it."""
        slots = dict(state.slots)
        path = slots.pop("path")
        after, info = self.main.step(point, state.replace(slots=slots, branches={}))
        told = dict(info)
        branches = {}
        for name, other in self.others.items():
            branch = state.branches[name]
            while HALTED not in branch.history and is_before(branch, after):
                try:
                    branch, seen = other.step(point.objective.at(branch, need=other.need), branch)
                except HaltError as halt:
                    branch = branch.replace(history={HALTED: str(halt)})
                else:
                    told |= {f"{name}_{key}": value for key, value in seen.items()}
            branches[name] = branch
        path = path + (after.w - state.w).norm().double()
        return after.replace(slots={**after.slots, "path": path}, branches=branches), told

    def threshold(self) -> float | None:
        """Return that of the main dynamics."""
        return self.main.threshold()

    def describe(self) -> dict[str, Any]:
        """Return what must agree for a run to be continued."""
        others = {name: other.describe() for name, other in self.others.items()}
        return self.main.describe() | {"together_with": others}


def is_before(one: State, other: State) -> bool:
    """Whether the time of `one` is earlier than that of `other`, rounding apart."""
    return float(one.t) < float(other.t) * (1 - CLOCK)
