"""The neurons of a whole network: counts for each of its neuron groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.collapse.counts import Counts, Grouping, count
from limen.errors import InputError
from limen.symmetry import NeuronGroup, Slot


@dataclass(frozen=True)
class GroupCounts:
    """What is left of one neuron group.

    Attributes:
        group: which slices of which parameters, and which of its sets are invariant.
        counts: of its neurons.
    """

    group: NeuronGroup
    counts: Counts


def report(
    groups: Sequence[NeuronGroup], parameters: Mapping[str, Tensor], grouping: Grouping = "linkage"
) -> list[GroupCounts]:
    """Count the neurons of each group; see `count`.

    Args:
        groups: of the network, as `limen.symmetry.neuron_groups` finds them.
        parameters: by name, a state_dict for instance.
        grouping: "linkage" or "greedy".

    Raises:
        InputError: a parameter is missing, or not finite.

    Examples:
        >>> from torch import nn
        >>> from limen.symmetry import neuron_groups
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> with torch.no_grad():
        ...     for x in (net[0].weight, net[0].bias, net[2].weight.t()):
        ...         x[4:6] = 0
        ...         x[7] = x[1]
        >>> (layer,) = report(neuron_groups(net, torch.zeros(1, 3)), net.state_dict())
        >>> layer.counts.vanished, layer.counts.identical, layer.counts.independent
        (2, 1, 5)
    """
    found = []
    for group in groups:
        try:
            found.append(GroupCounts(group, count(*parts(group, parameters), grouping=grouping)))
        except InputError as error:
            raise InputError(f"group {group.name!r}: {error}") from error
    return found


def fraction(layers: Sequence[GroupCounts]) -> float:
    """Return the independent neurons of all groups as a fraction of all; nan if there is no group."""
    size = sum(layer.counts.size for layer in layers)
    return sum(layer.counts.independent for layer in layers) / size if size else float("nan")


def parts(group: NeuronGroup, parameters: Mapping[str, Tensor]) -> list[Tensor]:
    """Return what `group.vectors` puts side by side, without putting it side by side: one (size, d_k) a slot.

    Raises:
        InputError: a parameter is missing.
    """
    missing = [slot.parameter for slot in group.slots if slot.parameter not in parameters]
    if missing:
        raise InputError(
            f"expected the parameter {missing[0]!r}, got {', '.join(list(parameters)[:8])}. "
            "Give the state_dict of the network that was traced."
        )
    return [_slices(slot, parameters[slot.parameter]) for slot in group.slots]


def _slices(slot: Slot, parameter: Tensor) -> Tensor:
    """Return what belongs to each unit, without a copy where the units are the whole first dimension."""
    size = len(slot.index)
    whole = slot.dim >= 0 and slot.index.shape[1] == 1 and parameter.shape[slot.dim] == size
    if whole and torch.equal(slot.index[:, 0].cpu(), torch.arange(size)):
        return parameter.movedim(slot.dim, 0).reshape(size, -1)
    return slot.slices(parameter)


def positions(group: NeuronGroup, parameters: Mapping[str, Tensor]) -> Tensor:
    """Return where in the flat parameters each neuron's numbers are, (size, d).

    Args:
        group: of the network.
        parameters: all that the flat vector holds, by name and in its order; only their shapes matter.

    Examples:
        >>> from torch import nn
        >>> from limen.symmetry import neuron_groups
        >>> net = nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1))
        >>> (group,) = neuron_groups(net, torch.zeros(1, 1))
        >>> positions(group, dict(net.named_parameters())).tolist()
        [[0, 2, 4], [1, 3, 5]]
    """
    first, numbered = 0, {}
    for name, parameter in parameters.items():
        numbered[name] = torch.arange(first, first + parameter.numel()).view(parameter.shape)
        first += parameter.numel()
    return torch.cat(parts(group, numbered), dim=1)
