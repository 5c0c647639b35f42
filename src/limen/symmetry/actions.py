"""What a group's symmetries do to parameters: exchange units, rescale them, copy one onto another, silence one.

All are pure functions of named tensors (a state_dict) that return new ones; what they do not touch is shared.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"
from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from limen.errors import InputError
from limen.symmetry.groups import NeuronGroup, Slot

Parameters = Mapping[str, Tensor]


def _checked(group: NeuronGroup, units: Sequence[int]) -> list[int]:
    wrong = [unit for unit in units if not 0 <= unit < group.size]
    if wrong:
        raise InputError(f"group {group.name!r} has units 0 … {group.size - 1}, got {wrong[0]}.")
    return list(units)


def write(
    slot: Slot, parameter: Tensor, source: Tensor, units: Sequence[int], origin: Sequence[int]
) -> Tensor:
    """Return `parameter` with the slices of `units` taken from those of `origin` in `source`."""
    index = slot.index.to(parameter.device)
    here, there = index[list(units)].reshape(-1), index[list(origin)].reshape(-1)
    if slot.dim < 0:
        flat = parameter.reshape(-1).clone()
        flat[here] = source.reshape(-1)[there]
        return flat.reshape(parameter.shape)
    result = parameter.clone()
    result.index_copy_(slot.dim, here, source.index_select(slot.dim, there))
    return result


def renew(parameters: dict[str, Tensor], name: str, new: Tensor) -> None:
    """Replace a tensor in place, under all names that share it, as tied weights do in a state_dict."""
    old = parameters[name]
    for other, x in parameters.items():
        if x is old or (x.data_ptr() == old.data_ptr() != 0 and x.shape == old.shape):
            parameters[other] = new


def permute(parameters: Parameters, group: NeuronGroup, order: Sequence[int]) -> dict[str, Tensor]:
    """Return parameters whose unit i is the former unit order[i]; running statistics move along where given.

    Raises:
        InputError: `order` is not a permutation of the units.
    """
    if sorted(order) != list(range(group.size)):
        raise InputError(
            f"expected an order of the {group.size} units of {group.name!r}, got {list(order)[:8]}."
        )
    result = dict(parameters)
    for slot in (*group.slots, *group.statistics):
        if slot.parameter in result:
            x = result[slot.parameter]
            renew(result, slot.parameter, write(slot, x, x, range(group.size), order))
    return result


def duplicate(
    parameters: Parameters, group: NeuronGroup, pairs: Sequence[tuple[int, int]]
) -> dict[str, Tensor]:
    """Return parameters in which, for each (i, j), all that belongs to unit j is a copy of what belongs to unit i."""
    origin = list(range(group.size))
    for i, j in pairs:
        _checked(group, (i, j))
        origin[j] = i
    result = dict(parameters)
    for slot in (*group.slots, *group.statistics):
        if slot.parameter in result:
            x = result[slot.parameter]
            renew(result, slot.parameter, write(slot, x, x, range(group.size), origin))
    return result


def silence(parameters: Parameters, group: NeuronGroup, units: Sequence[int]) -> dict[str, Tensor]:
    """Return parameters in which all that belongs to `units` is zero."""
    chosen = _checked(group, units)
    result = dict(parameters)
    for slot in group.slots:
        x = result[slot.parameter]
        renew(result, slot.parameter, write(slot, x, torch.zeros_like(x), chosen, chosen))
    return result


def rescale(parameters: Parameters, group: NeuronGroup, factors: Tensor) -> dict[str, Tensor]:
    """Return parameters whose unit i has its inputs multiplied by factors[i] and its outputs divided by it.

    Where a norm layer follows, its scale and shift take the place of incoming weights and bias. For a positively
    homogeneous activation (relu, leaky relu, none) and factors > 0 the function stays the same.

    Args:
        parameters: by name.
        group: of a single path: its units are written once, or each writer ends in a norm layer.
        factors: (size,).
    """
    if tuple(factors.shape) != (group.size,):
        raise InputError(f"expected {group.size} factors, got a tensor of shape {tuple(factors.shape)}.")
    normed = any(slot.role == "scale" for slot in group.slots)
    powers = {"scale": 1, "shift": 1, "out": -1} if normed else {"in": 1, "bias": 1, "out": -1}
    result = dict(parameters)
    for slot in group.slots:
        if slot.role in powers:
            x = result[slot.parameter]
            along = torch.ones(
                x.numel() if slot.dim < 0 else x.shape[slot.dim], dtype=x.dtype, device=x.device
            )
            power = powers[slot.role]
            each = factors.to(x) ** power
            along[slot.index.to(x.device).reshape(-1)] = each.repeat_interleave(slot.index.shape[1])
            shape = x.shape if slot.dim < 0 else [-1 if d == slot.dim else 1 for d in range(x.ndim)]
            renew(result, slot.parameter, x * along.reshape(shape))
    return result
