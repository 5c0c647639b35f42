"""The smaller network with the same function, once units have collapsed.

A unit that is always zero, or that nobody reads, goes. Units that are written alike have the same value on every input,
so one of them with the sum of their outgoing weights does what all did. Every step is proved on data: where the network
with fewer units does not give the same outputs, the step is undone.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"
from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from limen.errors import InputError
from limen.symmetry.check import gap, outputs
from limen.symmetry.groups import NeuronGroup, Slot, neuron_groups

WRITING = ("in", "bias", "scale", "shift")


@dataclass(frozen=True)
class Merged:
    """A smaller network and the evidence that it is the same function.

    Attributes:
        module: the network.
        before: units of each group that lost some.
        after: units that it has left.
        vanished: units that were zero or not read.
        identical: units that others stand for now.
        refused: groups with collapsed units that could not be merged, and why.
        gap: the largest difference of outputs on the data, relative to the largest output.
    """

    module: nn.Module
    before: Mapping[str, int]
    after: Mapping[str, int]
    vanished: int
    identical: int
    refused: Mapping[str, str]
    gap: float


def merge(
    module: nn.Module,
    example: Any,
    *,
    data: Any = None,
    tolerance: float = 1e-6,
    allowed: float | None = None,
) -> Merged:
    """Return a copy of the network without its collapsed units, and how far its outputs are from the original's.

    Removed are units whose value is always zero (group.sign holds; incoming weights and bias, or scale and shift, are
    zero), units that nobody reads, and all but one of units that are written alike (incoming weights, bias, scale,
    shift and running statistics are equal), whose outgoing weights are summed. Groups over which an operation runs
    (layer norm, attention heads) stay as they are, as one unit less would be another function.

    Args:
        module: the network; it is left as it is.
        example: an input (n, …), or a tuple of inputs, to trace it with.
        data: inputs to prove it on (default: the example).
        tolerance: what counts as zero, relative to the largest unit of the group, and as equal, relative to the units.
        allowed: the largest accepted difference of outputs, relative to the largest (default: 1e-9 in float64 and 1e-4
            in float32, or 100 tolerance if that is more).

    Raises:
        InputError: the network cannot be traced, or tolerance is negative.
    """
    if tolerance < 0:
        raise InputError(f"tolerance must not be negative, got {tolerance}.")
    data = example if data is None else data
    reference = outputs(module, data)
    rounding = 1e-9 if reference.dtype == torch.float64 else 1e-4
    limit = max(rounding, 100 * tolerance) if allowed is None else allowed
    current = copy.deepcopy(module)
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    refused: dict[str, str] = {}
    vanished = identical = 0
    again = True
    while again:  # a unit that goes may have been the last that another one spoke to
        again = False
        moved: set[tuple[str, int]] = set()  # where positions are no longer those that the groups know
        for group in neuron_groups(current, example):
            places = {(slot.parameter, slot.dim) for slot in group.slots}
            if places & moved:
                again = True
                continue
            plan = _plan(group, current.state_dict(), tolerance)
            if plan.nothing or group.name in refused:
                continue
            if why := _refusal(current, group):
                refused[group.name] = why
                continue
            smaller = copy.deepcopy(current)
            try:
                _shrink(smaller, group, plan)
                found = gap(reference, outputs(smaller, data))
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                refused[group.name] = f"its size is written into the module: {reason}"
                continue
            if not found <= limit:
                refused[group.name] = f"outputs would change by {found:.2g} of the largest"
                continue
            current, again = smaller, True
            moved |= places
            before.setdefault(group.name, group.size)
            after[group.name] = len(plan.kept)
            vanished, identical = vanished + plan.vanished, identical + plan.identical
    return Merged(
        current, before, after, vanished, identical, refused, gap(reference, outputs(current, data))
    )


@dataclass(frozen=True)
class _Plan:
    """Which units stay, and which of them each unit is added to (-1: none)."""

    kept: list[int]
    home: list[int]
    vanished: int
    identical: int

    @property
    def nothing(self) -> bool:
        return self.vanished + self.identical == 0


def _plan(group: NeuronGroup, state: Mapping[str, Tensor], tolerance: float) -> _Plan:
    """Find the units that can go, as far as weights tell."""

    def rows(*roles: str) -> Tensor:
        return joined([slot for slot in group.slots if slot.role in roles])

    def joined(slots: Sequence[Slot]) -> Tensor:
        parts = [slot.slices(state[slot.parameter]) for slot in slots]
        return torch.cat(parts, dim=1).double() if parts else torch.zeros(group.size, 0, dtype=torch.float64)

    def zero(x: Tensor) -> Tensor:
        lengths = x.norm(dim=1)
        none = torch.zeros(group.size, dtype=torch.bool, device=x.device)
        return lengths <= tolerance * lengths.max() if x.shape[1] else none

    # with a norm layer, incoming weights of zero leave its shift; other writers may have none
    silent = zero(joined(group.speaking or [slot for slot in group.slots if slot.role in WRITING]))
    if not group.sign:
        silent = torch.zeros_like(silent)
    unread = zero(rows("out"))
    gone = (silent | unread).tolist()
    whole = rows(*WRITING)
    if group.statistics:
        more = [slot.slices(state[slot.parameter]).double() for slot in group.statistics]
        whole = torch.cat([whole, *more], dim=1)
    home = _clusters(whole, tolerance) if group.exchange else list(range(group.size))
    stands: dict[int, int] = {}  # which unit stands for a cluster
    target = [-1 if gone[unit] else stands.setdefault(home[unit], unit) for unit in range(group.size)]
    kept = sorted(stands.values())
    if not kept:  # a layer without units is no layer: one silent unit stays
        kept, target[0] = [0], 0
    gone_count = sum(t < 0 for t in target)
    return _Plan(kept, target, gone_count, group.size - len(kept) - gone_count)


def _clusters(x: Tensor, tolerance: float) -> list[int]:
    """Return for each row the first of the rows that are equal to it, directly or by way of others."""
    draw = torch.Generator().manual_seed(0)
    line = torch.randn(x.shape[1], generator=draw, dtype=x.dtype).to(x.device)
    # no two rows are nearer to each other than their projections on a unit vector
    order = torch.argsort(shadow := x @ (line / line.norm().clamp_min(1e-300)))
    lengths, shadows, units = x.norm(dim=1).tolist(), shadow[order].tolist(), order.tolist()
    reach = tolerance * max(lengths)
    home = list(range(len(x)))
    for k, i in enumerate(units):
        for m in range(k + 1, len(units)):
            if shadows[m] - shadows[k] > reach + 1e-12 * max(lengths):
                break
            j = units[m]
            if (x[i] - x[j]).norm().item() <= tolerance * (lengths[i] + lengths[j]) / 2:
                low, high = sorted((home[i], home[j]))
                home = [low if h == high else h for h in home]
    return home


def _refusal(module: nn.Module, group: NeuronGroup) -> str:
    if group.coupled:
        return "an operation runs over its units, so that one less would be another function"
    if any(slot.dim < 0 for slot in group.slots):
        return "its units are inputs of a grouped convolution, whose groups must stay of one size"
    parts = dict(module.named_modules())
    if any(isinstance(parts[slot.parameter.rpartition(".")[0]], nn.RNNBase) for slot in group.slots):
        return "recurrent layers have their size written into them"
    return ""


def _shrink(module: nn.Module, group: NeuronGroup, plan: _Plan) -> None:
    """Take units out of a module, in place."""
    for slot in group.slots:
        old = module.get_parameter(slot.parameter)
        new = nn.Parameter(_shrunk(old.detach(), slot, plan), requires_grad=old.requires_grad)
        for name, parameter in list(module.named_parameters(remove_duplicate=False)):
            if parameter is old:  # layers that share a weight share the new one
                owner, _, leaf = name.rpartition(".")
                module.get_submodule(owner)._parameters[leaf] = new
    for slot in group.statistics:
        owner, _, leaf = slot.parameter.rpartition(".")
        module.get_submodule(owner)._buffers[leaf] = _shrunk(module.get_buffer(slot.parameter), slot, plan)
    for part in module.modules():
        _resize(part)


def _shrunk(x: Tensor, slot: Slot, plan: _Plan) -> Tensor:
    index = slot.index.to(x.device)
    if slot.role == "out":
        total = x.clone()
        for unit, home in enumerate(plan.home):
            if home not in (-1, unit):
                total.index_add_(slot.dim, index[home], x.index_select(slot.dim, index[unit]))
        x = total
    gone = torch.zeros(x.shape[slot.dim], dtype=torch.bool, device=x.device)
    lost = [unit for unit in range(len(index)) if unit not in set(plan.kept)]
    gone[index[lost].reshape(-1)] = True
    return x.index_select(slot.dim, (~gone).nonzero().squeeze(1)).clone()


def _resize(part: nn.Module) -> None:
    """Bring the sizes that a layer states up to date with its weight."""
    match part:
        case nn.Linear(weight=weight):
            part.out_features, part.in_features = weight.shape
        case _ConvNd(weight=weight):
            first, second = weight.shape[:2]
            if part.groups > 1 and second == 1 and part.in_channels == part.groups:
                part.groups = first
            a, b = (part.groups * second, first) if not part.transposed else (first, part.groups * second)
            part.in_channels, part.out_channels = a, b
        case _NormBase(weight=nn.Parameter() as weight):
            part.num_features = len(weight)
        case nn.Embedding(weight=weight):
            part.embedding_dim = weight.shape[1]
        case nn.PReLU(weight=weight):
            part.num_parameters = len(weight)
