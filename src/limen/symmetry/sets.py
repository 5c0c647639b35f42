"""The sets of networks that training cannot leave, and the proof on each minibatch.

Both are linear spaces of parameters θ:

* *Sign set* of a hidden unit: all that belongs to it is zero. Its normal space is spanned by the unit's own numbers.
* *Permutation set* of some pairs of units: what belongs to either is equal. It is what the exchanges of the paired
  units leave in place, and the orthogonal projection on it is the average over all these exchanges.

Where a group's `sign` (`permutation`) holds, the gradient of every minibatch at a point of the set is tangent to it,
and weight decay and momentum that started in the set stay there.

Source: Chen, Kunin, Yamamura and Ganguli, Stochastic Collapse, NeurIPS 2023, Section 3.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"
from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.errors import InputError
from limen.symmetry.actions import renew, silence, write
from limen.symmetry.groups import NeuronGroup, Slot
from limen.types import Batch, Need, Objective, State

Parameters = Mapping[str, Tensor]


class InvariantSet(ABC):
    """A linear space of parameters.

    Attributes:
        group: whose units it is about.
    """

    group: NeuronGroup

    @abstractmethod
    def project(self, parameters: Parameters) -> dict[str, Tensor]:
        """Return the nearest parameters in the set; what is not the group's is shared."""

    @abstractmethod
    def require(self) -> None:
        """Refuse, with the group's reason, a set that training can leave."""

    def normal(self, vector: Parameters) -> dict[str, Tensor]:
        """Return the component of a vector (parameters, a gradient, a velocity) normal to the set.

        Only the group's parameters are in it; it is zero elsewhere.
        """
        inside = self.project(vector)
        return {
            name: vector[name] - inside[name] for name in dict.fromkeys(s.parameter for s in self.group.slots)
        }

    def distance(self, vector: Parameters) -> float:
        """Return the Euclidean length of the normal component."""
        return math.hypot(*(x.double().norm().item() for x in self.normal(vector).values()))


@dataclass(frozen=True)
class SignSet(InvariantSet):
    """All that belongs to `neurons` is zero."""

    group: NeuronGroup
    neurons: tuple[int, ...]

    def project(self, parameters: Parameters) -> dict[str, Tensor]:
        """Return the parameters with the neurons' numbers set to zero."""
        return silence(parameters, self.group, self.neurons)

    def require(self) -> None:
        """Refuse a group whose units do not stay at zero."""
        if not self.group.sign:
            raise InputError(
                f"the sign set of group {self.group.name!r} is not invariant: {self.group.sign.why}. "
                "Choose a group whose `sign` holds, or its permutation set."
            )


@dataclass(frozen=True)
class PermutationSet(InvariantSet):
    """The units of each of `pairs` are equal; pairs that share a unit make all of theirs equal."""

    group: NeuronGroup
    pairs: tuple[tuple[int, int], ...]

    def clusters(self) -> list[list[int]]:
        """Return the sets of units that are equal."""
        home = list(range(self.group.size))
        for i, j in self.pairs:
            for unit in (i, j):
                if not 0 <= unit < self.group.size:
                    raise InputError(
                        f"group {self.group.name!r} has units 0 … {self.group.size - 1}, got {unit}."
                    )
            a, b = sorted((home[i], home[j]))
            home = [a if h == b else h for h in home]
        found: dict[int, list[int]] = {}
        for unit, h in enumerate(home):
            found.setdefault(h, []).append(unit)
        return [cluster for cluster in found.values() if len(cluster) > 1]

    def project(self, parameters: Parameters) -> dict[str, Tensor]:
        """Return the average over all exchanges of units within each cluster; running statistics too if given."""
        result = dict(parameters)
        clusters = self.clusters()
        by_parameter: dict[str, list[Slot]] = {}
        for slot in (*self.group.slots, *self.group.statistics):
            by_parameter.setdefault(slot.parameter, []).append(slot)
        for name, slots in by_parameter.items():
            if name in result:
                average = _averaged if len(slots) == 1 else _orbits
                renew(result, name, average(result[name], slots, clusters))
        return result

    def require(self) -> None:
        """Refuse a group whose units are not exchangeable."""
        if not self.group.permutation:
            raise InputError(
                f"the permutation set of group {self.group.name!r} is not invariant: {self.group.permutation.why}. "
                "Choose a group whose `permutation` holds."
            )


def _averaged(x: Tensor, slots: Sequence[Slot], clusters: Sequence[Sequence[int]]) -> Tensor:
    """Give all units of a cluster the mean of their slices."""
    (slot,) = slots
    result = x.clone()
    front = result.view(-1) if slot.dim < 0 else result.movedim(slot.dim, 0)
    index = slot.index.to(x.device)
    for cluster in clusters:
        rows = index[cluster]
        # equal slices stay as they are to the last bit: a mean of equal numbers may round
        first = front[rows[0]]
        front[rows] = first + (front[rows] - first).mean(0)
    return result


def _orbits(x: Tensor, slots: Sequence[Slot], clusters: Sequence[Sequence[int]]) -> Tensor:
    """Give all elements that exchanges carry to each other their mean: units may own rows and columns of one matrix."""
    places = torch.arange(x.numel(), device=x.device).reshape(x.shape)
    orbit = places.clone().reshape(-1)
    exchanges = []
    for cluster in clusters:
        for i, j in itertools.pairwise(cluster):
            moved = places
            for slot in slots:
                moved = write(slot, moved, moved, (i, j), (j, i))
            exchanges.append(moved.reshape(-1))
    while True:
        before = orbit
        for moved in exchanges:
            orbit = torch.minimum(orbit, orbit[moved])
        if torch.equal(orbit, before):
            break
    flat = x.reshape(-1)
    first = flat[orbit]
    total = torch.zeros_like(flat).index_add_(0, orbit, flat - first)
    count = torch.zeros_like(flat).index_add_(0, orbit, torch.ones_like(flat))
    return (first + (total / count.clamp_min(1))[orbit]).reshape(x.shape)


def put_on_sign_set(parameters: Parameters, group: NeuronGroup, neurons: Sequence[int]) -> dict[str, Tensor]:
    """Return parameters in which all that belongs to `neurons` is zero.

    Raises:
        InputError: the set is not invariant, or there is no such neuron.
    """
    target = SignSet(group, tuple(neurons))
    target.require()
    return target.project(parameters)


def put_on_permutation_set(
    parameters: Parameters, group: NeuronGroup, pairs: Sequence[tuple[int, int]]
) -> dict[str, Tensor]:
    """Return the nearest parameters in which the units of each pair are equal.

    Raises:
        InputError: the set is not invariant, or there is no such neuron.
    """
    target = PermutationSet(group, tuple(pairs))
    target.require()
    return target.project(parameters)


def normal_component(vector: Parameters, target: InvariantSet) -> dict[str, Tensor]:
    """Return the component of named tensors that is normal to a set."""
    return target.normal(vector)


def named(objective: Objective, state: State, vector: Tensor) -> dict[str, Tensor]:
    """Return a flat vector (p,), a gradient for instance, by the names of the objective's parameters."""
    return objective.state_dict(state.replace(w=vector))


def put(objective: Objective, state: State, target: InvariantSet) -> State:
    """Return the state with its parameters, and slots such as the velocity, projected on the set.

    Raises:
        InputError: the set is not invariant.
    """
    target.require()
    where = named(objective, state, torch.arange(len(state.w), device=state.w.device))

    def projected(vector: Tensor) -> Tensor:
        parts = target.project({name: vector[where[name]] for name in _own(target)})
        result = vector.clone()
        for name, part in parts.items():
            result[where[name].reshape(-1)] = part.reshape(-1)
        return result

    slots = {name: projected(vector) for name, vector in state.slots.items()}
    return state.replace(w=projected(state.w), slots=slots)


def _own(target: InvariantSet) -> list[str]:
    return list(dict.fromkeys(slot.parameter for slot in target.group.slots))


@dataclass(frozen=True)
class Tangency:
    """How the gradients of some minibatches lie to a set.

    Attributes:
        normal: length of each gradient's normal component.
        gradient: length of each gradient.
    """

    normal: tuple[float, ...]
    gradient: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The largest normal component relative to its gradient."""
        return max(
            (n / g if g else 0.0 for n, g in zip(self.normal, self.gradient, strict=True)), default=0.0
        )


def check_tangent(
    objective: Objective, state: State, target: InvariantSet, batches: Iterable[Batch | None] = (None,)
) -> Tangency:
    """Return the normal components of minibatch gradients at a point of a set: zero to rounding if it is invariant.

    Args:
        objective: the landscape.
        state: on the set, with its velocity (see `put`).
        target: the set.
        batches: minibatches; None stands for the full batch.

    Raises:
        InputError: the point does not lie in the set.
    """
    for label, vector in {"w": state.w, **state.slots}.items():
        away = target.distance(named(objective, state, vector))
        if away > 1e-6 * (1 + vector.norm().item()):
            raise InputError(
                f"state {label} is {away:.3g} away from the set. Put it there with put(…) first."
            )
    normal, gradient = [], []
    for batch in batches:
        grad = objective.at(state, batch, Need.GRAD).grad
        normal.append(target.distance(named(objective, state, grad)))
        gradient.append(grad.double().norm().item())
    return Tangency(tuple(normal), tuple(gradient))
