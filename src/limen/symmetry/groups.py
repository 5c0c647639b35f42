"""Neuron groups: which slices of which parameters belong to one hidden unit of a network.

The units of a group are alike: they own the same slices of the same parameters. A layer of a perceptron is a group,
and so are the channels of a convolution with their norm layer's scale and shift, all that writes into or reads from
one residual stream, and the heads of an attention layer.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"
from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limen.errors import InputError
from limen.symmetry.atoms import Atoms, mix
from limen.symmetry.axes import Layer, Value
from limen.symmetry.rules import Interpreter
from limen.symmetry.trace import trace

Role = Literal["in", "bias", "scale", "shift", "out", "statistic"]
ORDER: tuple[Role, ...] = ("in", "bias", "scale", "shift", "out", "statistic")


@dataclass(frozen=True)
class Invariance:
    """Whether a set of networks is kept by training, and why (not)."""

    holds: bool
    why: str

    def __bool__(self) -> bool:
        return self.holds


@dataclass(frozen=True, eq=False)
class Slot:
    """A parameter's slices that belong to the units of a group.

    Attributes:
        parameter: its name in the module.
        dim: the dimension along which units own slices; -1 if they own single elements of the flat parameter (as
            the inputs of a grouped convolution do).
        index: positions along `dim` that belong to unit i, (size, m).
        role: incoming weights, bias, a norm layer's scale or shift, outgoing weights, or a norm layer's statistic.
    """

    parameter: str
    dim: int
    index: Tensor
    role: Role

    def slices(self, parameter: Tensor) -> Tensor:
        """Return what belongs to each unit, (size, numbers of a unit)."""
        front = parameter.reshape(-1) if self.dim < 0 else parameter.movedim(self.dim, 0)
        size, each = self.index.shape
        in_order = len(front) == size * each and torch.equal(
            self.index.reshape(-1), torch.arange(size * each)
        )
        chosen = front.unflatten(0, (size, each)) if in_order else front[self.index.to(front.device)]
        return chosen.flatten(1)


@dataclass(frozen=True, eq=False)
class NeuronGroup:
    """Hidden units that are alike.

    Attributes:
        name: of the module that writes the units; of the first, if several write into one stream; `[k]` for units
            inside the k-th head or block.
        size: number of units.
        slots: what belongs to them.
        sign: whether a unit stays at zero when all that belongs to it is zero.
        smooth: whether the loss has a Hessian where all that is a unit's is zero, as with tanh and not with relu; said
            of groups whose `sign` holds.
        speaking: the slots which, all zero, leave a unit silent where `sign` holds: scale and shift of writers with a
            norm layer, weights and biases of the others.
        permutation: whether two units stay equal when all that belongs to them is equal.
        exchange: whether the function in evaluation stays the same when units are exchanged; `permutation` holds if
            this does and training treats units alike, as dropout does not.
        statistics: running statistics of norm layers; they move with the units and are no parameters.
        kind: `units`; `heads` of an attention layer, or other `blocks` of units, such as those of a grouped
            convolution.
        writers: modules whose output the units are.
        coupled: whether some operation (layer norm, attention) runs over the units, so that a function with one unit
            less is another function.
    """

    name: str
    size: int
    slots: tuple[Slot, ...]
    sign: Invariance
    permutation: Invariance
    exchange: Invariance
    statistics: tuple[Slot, ...] = ()
    kind: Literal["units", "heads", "blocks"] = "units"
    writers: tuple[str, ...] = field(default=())
    coupled: bool = False
    smooth: Invariance = Invariance(True, "no operation on the units has a kink at 0")
    speaking: tuple[Slot, ...] = ()

    def vectors(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return what belongs to each unit as rows (size, d): incoming weights, bias, scale, shift, outgoing weights.

        Args:
            parameters: by name, a state_dict for instance.

        Raises:
            InputError: a parameter is missing.
        """
        missing = [slot.parameter for slot in self.slots if slot.parameter not in parameters]
        if missing:
            raise InputError(
                f"group {self.name!r} needs the parameter {missing[0]!r}, got {', '.join(list(parameters)[:8])}. "
                "Give the state_dict of the network that was traced."
            )
        return torch.cat([slot.slices(parameters[slot.parameter]) for slot in self.slots], dim=1)


def neuron_groups(module: nn.Module, example: Any) -> list[NeuronGroup]:
    """Return the groups of hidden units of a network, in the order of the parameters that write them.

    The network is run once on (two rows of) the example, in evaluation mode, and each operation of the pass is
    followed: see `rules`. Dropout is seen where it is a module, not where a function is called for it (as within
    PyTorch's attention).
    Input features, classes and positions are no hidden units, and layers of a single unit are not listed.

    Args:
        module: the network; it is left as it is.
        example: an input (n, …), or a tuple of inputs.

    Raises:
        InputError: the network cannot be traced.

    Examples:
        >>> net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
        >>> (group,) = neuron_groups(net, torch.zeros(1, 3))
        >>> group.size, [(slot.parameter, slot.role) for slot in group.slots]
        (5, [('0.weight', 'in'), ('0.bias', 'bias'), ('2.weight', 'out')])
        >>> group.vectors(net.state_dict()).shape
        torch.Size([5, 6])
    """
    interpreter = Interpreter(trace(module, example))
    interpreter.run()
    return _Assembly(interpreter).groups()


class _Assembly:
    """Gathers the classes of atoms that are owned alike."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.interpreter = interpreter
        self.atoms: Atoms = interpreter.atoms
        self.count = len(self.atoms.root)
        self.layers = self._collect(interpreter.parameters)
        self.statistics = self._collect(interpreter.statistics)

    def _collect(self, values: Mapping[str, Value]) -> list[tuple[str, Value, Layer, Tensor]]:
        """Return each layer of each parameter with its classes up to date."""
        return [
            (name, value, layer, self.atoms.find(layer.labels))
            for name, value in values.items()
            for layer in value.layers
        ]

    def groups(self) -> list[NeuronGroup]:
        owned, coloured, blocks = self._signatures()
        members = self._members()
        inside = torch.zeros(self.count, dtype=torch.int64)
        for block, atom in members.tolist():
            inside[atom] += mix(torch.tensor(block + (1 << 40)))
        units = (owned != 0).nonzero().squeeze(1)
        units = units[units > 0]
        units = units[~blocks[units]]
        signature = mix(owned) + mix(coloured) * 3 + inside
        blocks_of: dict[int, list[int]] = {}
        for block, unit in members.tolist():
            blocks_of.setdefault(unit, []).append(block)
        large, number = self._blocks(members, owned, coloured)
        found = []
        for classes in _alike(units, signature):
            if len(classes) > 1:
                rank = torch.full((self.count,), -1, dtype=torch.int64)
                rank[classes] = torch.arange(len(classes))
                group = self._group(rank, rank, len(classes), "units")
                within = [number[block] for block in blocks_of.get(int(classes[0]), []) if block in number]
                found.append(replace(group, name=f"{group.name}[{within[0]}]") if within else group)
        return _named(found + large)

    def _signatures(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return, for every class, a sum over what it owns, one over its colours, and whether it is a block."""
        owned, coloured = (torch.zeros(self.count, dtype=torch.int64) for _ in range(2))
        for k, (_, _, _, labels) in enumerate(self.layers):
            flat = labels.reshape(-1)
            flat = flat[flat > 0]
            owned.index_add_(0, flat, mix(torch.full_like(flat, k + 1)))
        for event, (atoms, colours) in enumerate(self.atoms.colours):
            coloured.index_add_(0, self.atoms.find(atoms), mix(colours * 8191 + event))
        owned[0] = coloured[0] = 0
        is_block = torch.zeros(self.count, dtype=torch.bool)
        is_block[self._members()[:, 0]] = True
        return owned, coloured, is_block

    def _members(self) -> Tensor:
        """Return the pairs (block, unit) of classes, (pairs, 2)."""
        if not self.atoms.members:
            return torch.zeros(0, 2, dtype=torch.int64)
        blocks = torch.cat([self.atoms.find(block) for block, _ in self.atoms.members])
        units = torch.cat([self.atoms.find(atom) for _, atom in self.atoms.members])
        pairs = torch.stack([blocks, units], dim=1)
        return pairs[(blocks > 0) & (units > 0) & (blocks != units)].unique(dim=0)

    def _blocks(
        self, members: Tensor, owned: Tensor, coloured: Tensor
    ) -> tuple[list[NeuronGroup], dict[int, int]]:
        """Return the groups of blocks, and the number of each block in its group."""
        inside: dict[int, list[int]] = {}
        for block, unit in members.tolist():
            inside.setdefault(block, []).append(unit)
        fixed = {
            int(block)
            for blocks, units in self.atoms.members
            for block in self.atoms.find(blocks)[self.atoms.find(units) == 0].unique()
        }
        kept = [block for block in inside if block not in fixed]
        number: dict[int, int] = {}
        if not kept:
            return [], number
        heads = {int(c) for labels in self.atoms.heads for c in self.atoms.find(labels).unique()}
        signature = torch.zeros(self.count, dtype=torch.int64)
        for block in kept:
            parts = torch.tensor([block, *inside[block]])
            signature[block] = (mix(owned[parts]) + mix(coloured[parts]) * 3).sum()
        groups: list[NeuronGroup] = []
        for classes in _alike(torch.tensor(kept), signature):
            owned_by = [inside[block] for block in classes.tolist()]
            owners = [unit for part in owned_by for unit in part]
            if len(set(owners)) < len(owners):
                continue  # heads that share their keys are no units of their own
            rank, own = (torch.full((self.count,), -1, dtype=torch.int64) for _ in range(2))
            rank[classes] = own[classes] = torch.arange(len(classes))
            for k, part in enumerate(owned_by):
                rank[part] = k
            kind: Literal["heads", "blocks"] = "heads" if int(classes[0]) in heads else "blocks"
            if len(classes) > 1:
                group = self._group(own, rank, len(classes), kind)
                number.update({block: k for k, block in enumerate(classes.tolist())})
                if not any(
                    _same(group, other) for other in groups
                ):  # two operations may find the same blocks
                    groups.append(group)
        return groups, number

    def _group(
        self, own: Tensor, rank: Tensor, size: int, kind: Literal["units", "heads", "blocks"]
    ) -> NeuronGroup:
        """Return the group whose i-th unit has the classes of `rank` i; of these, `own` are its own, not members."""
        slots = self._slots(self.layers, rank, size, blocks=kind != "units")
        statistics = self._slots(self.statistics, rank, size, "statistic")
        written = [slot for slot in slots if slot.role == "in"] or list(slots)
        writers = tuple(dict.fromkeys(_owner(slot.parameter) or slot.parameter for slot in written))
        sign = self._sign(own, rank)
        exchange = self._exchange(rank, size)
        permutation = self._permutation(rank, exchange)
        coupled = kind != "units" or any(
            bool((rank[self.atoms.find(atoms)] >= 0).any())
            for atoms in [*self.atoms.coupled, *(atom for _, atom in self.atoms.members)]
        )
        name = writers[0] if kind == "units" else _under(_common(writers), kind)
        smooth = self._smooth(own, rank)
        heard, normed = self.interpreter.speaking, self.interpreter.normed
        speaking = tuple(
            slot
            for slot in slots  # what a depthwise filter scales is silent without it
            if slot.parameter in heard and (slot.role != "scale" or slot.parameter in normed)
        )
        return NeuronGroup(
            name,
            size,
            slots,
            sign,
            permutation,
            exchange,
            statistics,
            kind,
            writers,
            coupled,
            smooth,
            speaking,
        )

    def _slots(
        self,
        layers: Sequence[tuple[str, Value, Layer, Tensor]],
        rank: Tensor,
        size: int,
        role: Role | None = None,
        *,
        blocks: bool = False,
    ) -> tuple[Slot, ...]:
        slots = []
        for name, value, layer, labels in layers:
            owner = torch.where(labels > 0, rank[labels.clamp_min(0)], -1)
            if not (owner >= 0).any():
                continue
            dims = sorted(layer.support)
            dim = dims[0] if len(dims) == 1 else -1
            flat = owner.reshape(-1) if dim >= 0 else owner.expand(value.shape).reshape(-1)
            positions = (flat >= 0).nonzero().squeeze(1)
            positions = positions[torch.argsort(flat[positions], stable=True)]
            index = positions.reshape(size, -1)
            slots.append(Slot(name, dim, index, role or self._role(layer)))
        by_rows = {slot.parameter for slot in slots if slot.dim >= 0}
        if blocks:  # to move a block's rows is to move the elements of these rows
            slots = [slot for slot in slots if slot.dim >= 0 or slot.parameter not in by_rows]
        return tuple(sorted(slots, key=lambda slot: ORDER.index(slot.role)))

    def _role(self, layer: Layer) -> Role:
        source = layer.source
        assert source is not None
        role = self.interpreter.roles.get(source, "in" if source[1] == 0 else "out")
        if role == "bias":
            home = _owner(source[0])
            scaled = any(
                _owner(p) == home and r == "scale" and p != source[0] for (p, _), r in self._scales()
            )
            role = "shift" if scaled else "bias"
        return role  # type: ignore[return-value]

    def _scales(self) -> list[tuple[tuple[str, int], str]]:
        shapes = {name: value.shape for name, value in self.interpreter.parameters.items()}
        return [item for item in self.interpreter.roles.items() if len(shapes[item[0][0]]) == 1]

    def _sign(self, own: Tensor, rank: Tensor) -> Invariance:
        for atoms, why, inherited in self.atoms.sign:
            if ((rank if inherited else own)[self.atoms.find(atoms)] >= 0).any():
                return Invariance(False, why)
        return Invariance(True, "where all that is a unit's is zero, so are its gradients")

    def _smooth(self, own: Tensor, rank: Tensor) -> Invariance:
        for atoms, why, inherited in self.atoms.kinks:
            if ((rank if inherited else own)[self.atoms.find(atoms)] >= 0).any():
                return Invariance(False, why)
        return Invariance(True, "no operation on the units has a kink at 0")

    def _exchange(self, rank: Tensor, size: int) -> Invariance:
        for atoms, why in self.atoms.permutation:
            if (rank[self.atoms.find(atoms)] >= 0).any():
                return Invariance(False, why)
        for atoms, colours, why in self.atoms.weights:
            owner = rank[self.atoms.find(atoms)]
            met = torch.zeros(size, dtype=torch.int64)
            met.index_add_(0, owner[owner >= 0], mix(colours[owner >= 0]))
            if (met != met[0]).any():
                return Invariance(False, why)
        return Invariance(True, "exchanging units leaves the function as it is")

    def _permutation(self, rank: Tensor, exchange: Invariance) -> Invariance:
        for atoms, why in self.atoms.dropped:
            if exchange and (rank[self.atoms.find(atoms)] >= 0).any():
                return Invariance(False, why)
        return exchange


def _alike(classes: Tensor, signature: Tensor) -> list[Tensor]:
    """Split classes by their signature; groups in the order of their first class."""
    _, which = signature[classes].unique(return_inverse=True)
    groups = [classes[which == k] for k in range(int(which.max()) + 1)] if len(classes) else []
    return sorted(groups, key=lambda group: int(group.min()))


def _same(a: NeuronGroup, b: NeuronGroup) -> bool:
    """Whether two groups own the same slices."""
    ours, theirs = ({(s.parameter, s.dim): s.index for s in group.slots} for group in (a, b))
    return ours.keys() == theirs.keys() and all(torch.equal(x, theirs[key]) for key, x in ours.items())


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _under(module: str, leaf: str) -> str:
    return f"{module}.{leaf}" if module else leaf


def _common(names: Sequence[str]) -> str:
    levels = zip(*(name.split(".") for name in names), strict=False)
    return ".".join(level[0] for level in itertools.takewhile(lambda level: len(set(level)) == 1, levels))


def _named(groups: Sequence[NeuronGroup]) -> list[NeuronGroup]:
    """Give each group a name of its own."""
    result: list[NeuronGroup] = []
    counts: dict[str, int] = {}
    for group in groups:
        counts[group.name] = k = counts.get(group.name, 0) + 1
        result.append(group if k == 1 else replace(group, name=f"{group.name}#{k}"))
    return result
