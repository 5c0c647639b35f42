"""Invariant sets of a network's neurons, as linear spaces of flat parameters, and what is normal to them.

Legend: p parameters, k sets, m normal coordinates of each.

- *Sign set* of a neuron: all that belongs to it is zero. Its normal space are the neuron's own numbers.
- *Permutation set* of two neurons of one layer: all that belongs to them is equal. Its normal space are their
  differences.

Source: Chen, Kunin, Yamamura and Ganguli, Stochastic Collapse, NeurIPS 2023, Section 3.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.collapse.report import positions
from limen.errors import InputError
from limen.symmetry import NeuronGroup


class NormalSpaces(ABC):
    """The normal spaces of k linear sets, mutually orthogonal, m dimensions each.

    Attributes:
        count: k.
        width: m.
    """

    count: int
    width: int

    @abstractmethod
    def coordinates(self, x: Tensor) -> Tensor:
        """Return the components of `x` (p,) normal to each set, in an orthonormal basis: (k, m)."""

    @abstractmethod
    def lift(self, coordinates: Tensor, p: int) -> Tensor:
        """Return the vector (p,) with these components (k, m), which is normal to all sets."""

    def project(self, x: Tensor) -> Tensor:
        """Return the nearest point (p,) to `x` that lies in all sets."""
        return x - self.lift(self.coordinates(x), len(x))

    def distances(self, x: Tensor) -> Tensor:
        """Return the distance of `x` (p,) from each set: (k,)."""
        lengths: Tensor = torch.linalg.vector_norm(self.coordinates(x), dim=1)
        return lengths


@dataclass(frozen=True, eq=False)
class SignSets(NormalSpaces):
    """The sign sets of k neurons.

    Attributes:
        positions: where in the flat parameters each neuron's numbers are, (k, m).

    Examples:
        >>> sets = SignSets(torch.tensor([[0, 2]]))
        >>> sets.project(torch.tensor([3.0, 1.0, 4.0])).tolist(), sets.distances(torch.tensor([3.0, 1.0, 4.0])).tolist()
        ([0.0, 1.0, 0.0], [5.0])
    """

    positions: Tensor

    def __post_init__(self) -> None:
        _disjoint(self.positions)

    @classmethod
    def of(cls, group: NeuronGroup, parameters: Mapping[str, Tensor], neurons: Sequence[int]) -> SignSets:
        """Return the sign sets of some neurons of a group.

        Args:
            group: of the network, as `limen.symmetry.neuron_groups` finds it.
            parameters: all that the flat vector holds, by name and in its order.
            neurons: their indices.

        Raises:
            InputError: the group's sign set is not invariant, or the loss has a kink there, as with relu and with max
                pooling: deviations to either side then grow differently, and there is no exponent.
        """
        if not group.sign.holds:
            raise InputError(f"group {group.name!r} has no invariant sign set: {group.sign.why}.")
        if not group.smooth.holds:
            raise InputError(
                f"the sign set of group {group.name!r} has no Lyapunov exponent: {group.smooth.why}, so that the loss "
                "has no Hessian there. Take an activation that is smooth at 0 (tanh, gelu) and average pooling, or the "
                "permutation set."
            )
        return cls(positions(group, parameters)[list(neurons)])

    @property
    def count(self) -> int:  # type: ignore[override]
        """How many neurons."""
        return len(self.positions)

    @property
    def width(self) -> int:  # type: ignore[override]
        """How many numbers each has."""
        return self.positions.shape[1]

    def coordinates(self, x: Tensor) -> Tensor:
        """Return each neuron's numbers (k, m)."""
        return x[self.positions.to(x.device)]

    def lift(self, coordinates: Tensor, p: int) -> Tensor:
        """Return a vector (p,) with these numbers, zero elsewhere."""
        out = coordinates.new_zeros(p)
        out[self.positions.to(out.device)] = coordinates
        return out


@dataclass(frozen=True, eq=False)
class PermutationSets(NormalSpaces):
    """The permutation sets of k pairs of neurons, no neuron in two of them.

    Attributes:
        first: where in the flat parameters the numbers of each pair's first neuron are, (k, m).
        second: those of its second one, in the same order.

    Examples:
        >>> sets = PermutationSets(torch.tensor([[0]]), torch.tensor([[2]]))
        >>> sets.project(torch.tensor([3.0, 1.0, 5.0])).tolist()
        [4.0, 1.0, 4.0]
    """

    first: Tensor
    second: Tensor

    def __post_init__(self) -> None:
        if self.first.shape != self.second.shape:
            raise InputError(
                f"the neurons of a pair need equally many numbers: got positions of shapes "
                f"{tuple(self.first.shape)} and {tuple(self.second.shape)}."
            )
        _disjoint(torch.cat([self.first, self.second]))

    @classmethod
    def of(
        cls, group: NeuronGroup, parameters: Mapping[str, Tensor], pairs: Sequence[tuple[int, int]]
    ) -> PermutationSets:
        """Return the permutation sets of some pairs of a group's neurons; arguments as of `SignSets.of`.

        Raises:
            InputError: the group's permutation set is not invariant, or a neuron is in two pairs.
        """
        if not group.permutation.holds:
            raise InputError(
                f"group {group.name!r} has no invariant permutation set: {group.permutation.why}."
            )
        where = positions(group, parameters)
        return cls(where[[first for first, _ in pairs]], where[[second for _, second in pairs]])

    @property
    def count(self) -> int:  # type: ignore[override]
        """How many pairs."""
        return len(self.first)

    @property
    def width(self) -> int:  # type: ignore[override]
        """How many numbers each neuron has."""
        return self.first.shape[1]

    def coordinates(self, x: Tensor) -> Tensor:
        """Return (a − b)/√2 for the two neurons a, b of each pair (k, m)."""
        return (x[self.first.to(x.device)] - x[self.second.to(x.device)]) / math.sqrt(2)

    def lift(self, coordinates: Tensor, p: int) -> Tensor:
        """Return a vector (p,) with half of each difference on either neuron of its pair, zero elsewhere."""
        out = coordinates.new_zeros(p)
        out[self.first.to(out.device)] = coordinates / math.sqrt(2)
        out[self.second.to(out.device)] = -coordinates / math.sqrt(2)
        return out


def _disjoint(positions: Tensor) -> None:
    if positions.ndim != 2 or not positions.numel():
        raise InputError(
            f"expected positions (neurons, numbers of each), and some; got {tuple(positions.shape)}."
        )
    if len(torch.unique(positions)) < positions.numel():
        raise InputError(
            "two of the chosen neurons share a parameter, so that their normal spaces overlap: choose neurons of one "
            "layer, each in one pair at the most, or of layers that do not touch."
        )
