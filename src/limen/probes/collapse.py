"""Vanished, identical and independent neurons along a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from limen.collapse.counts import GROUPINGS, Grouping
from limen.collapse.networks import Network, network_of
from limen.collapse.report import fraction, report
from limen.errors import InputError
from limen.symmetry import NeuronGroup, neuron_groups
from limen.types import Memory, Need, Objective, Point, Probe, Schedule, State, Value


@dataclass(frozen=True)
class Collapse(Probe):
    """Records `independent_fraction`, and lists with a number for each neuron group of the network.

    The lists are `independent`, `vanished`, `identical` and `effective_rank`, in the order of
    `limen.symmetry.neuron_groups(module, example)`; see `limen.collapse.count`. The network is traced at the first
    measurement. Where weights are not finite nothing is recorded.

    Attributes:
        schedule: the steps it looks at.
        grouping: "linkage", independent of the order of the neurons, or "greedy", as published.
    """

    schedule: Schedule = Schedule(1)
    grouping: Grouping = "linkage"
    _traced: dict[int, tuple[Network, list[NeuronGroup]]] = field(
        default_factory=dict, repr=False, compare=False
    )
    name = "collapse"
    need = Need.NOTHING

    def __post_init__(self) -> None:
        if self.grouping not in GROUPINGS:
            raise InputError(f"grouping: expected one of {', '.join(GROUPINGS)}, got {self.grouping!r}.")

    def init(self, objective: Objective) -> Memory:
        """Check that there is a network."""
        network_of(objective)
        return {}

    def describe(self) -> dict[str, Any]:
        """Return its settings."""
        return super().describe() | {"grouping": self.grouping}

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        """Count the neurons."""
        if not bool(state.w.isfinite().all()):
            return {}, memory
        network, groups = self._groups(point)
        layers = report(groups, network.unflatten(state.w), self.grouping)
        counts = [layer.counts for layer in layers]
        values: dict[str, Value] = {
            "independent_fraction": fraction(layers),
            "independent": [float(one.independent) for one in counts],
            "vanished": [float(one.vanished) for one in counts],
            "identical": [float(one.identical) for one in counts],
            "effective_rank": [one.effective_rank for one in counts],
        }
        return values, memory

    def _groups(self, point: Point) -> tuple[Network, list[NeuronGroup]]:
        key = id(point.objective)
        if key not in self._traced:
            network = network_of(point.objective)
            groups = neuron_groups(network.module, network.example(point))
            if not groups:
                raise InputError("the network has no hidden neurons to count.")
            self._traced[key] = (network, groups)
        return self._traced[key]


def make(*, freq: int = 100, grouping: Grouping = "linkage") -> Collapse:
    """Return the probe, looking every `freq` steps.

    Args:
        freq: how often.
        grouping: "linkage" (order-free), or "greedy" (published).
    """
    return Collapse(Schedule(freq), grouping)
