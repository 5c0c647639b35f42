"""Which unit each number of a tensor belongs to, through products, sums and reductions.

A tensor has *layers* of labels, each a tensor of atoms that is broadcast over the dimensions along which it does not
vary. The activations of a convolution (n, C, H, W) have one layer (1, C, 1, 1); a weight matrix has two, one for its
rows and one for its columns. Contractions (linear maps, convolutions, attention) are elementwise products of
broadcast tensors that are then summed over a dimension, so that two rules carry everything:

* `elementwise`: where layers of two tensors vary along the same dimensions, their atoms are united. Where one tells
  heads (or groups of channels) apart and the other the units inside them, the units become members of the *block*.
* `reduce`: a layer that varies along a summed dimension ends there. Its units stay exchangeable, as a sum does not
  know an order; if it also varies along a kept dimension, the kept positions become blocks.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from limen.symmetry.atoms import FIXED, FREE, Atoms
from limen.symmetry.vanishing import NEVER


@dataclass(frozen=True)
class Layer:
    """Labels of one family of units on a tensor.

    Attributes:
        labels: atoms, with as many dimensions as the tensor, of size 1 where they do not vary.
        order: with which the tensor vanishes when a unit does (see `vanishing`).
        block: whether the labels are of blocks (heads, groups of channels), which have units as members.
        why: which operation made it not vanish.
        kink: which operation is not smooth where a unit's numbers are zero; empty if none is.
        source: (parameter, layer) where the tensor is a parameter that was only moved.
    """

    labels: Tensor
    order: int = 1
    block: bool = False
    why: str = ""
    source: tuple[str, int] | None = None
    kink: str = ""

    @property
    def support(self) -> frozenset[int]:
        """The dimensions along which the labels vary."""
        return frozenset(d for d, size in enumerate(self.labels.shape) if size > 1)


@dataclass(frozen=True)
class Value:
    """What is known of a tensor: its shape, its layers, and its numbers if nothing can change them."""

    shape: tuple[int, ...]
    layers: tuple[Layer, ...] = ()
    constant: Tensor | None = None

    @property
    def zero(self) -> bool:
        """Whether it is a constant zero."""
        return self.constant is not None and not self.constant.any()

    def aligned(self, ndim: int) -> Value:
        """Return the value with dimensions of size 1 in front, up to `ndim`."""
        more = (1,) * (ndim - len(self.shape))
        layers = [
            replace(layer, labels=layer.labels.reshape(*more, *layer.labels.shape)) for layer in self.layers
        ]
        constant = None if self.constant is None else self.constant.reshape(*more, *self.shape)
        return Value((*more, *self.shape), tuple(layers), constant)

    def mapped(self, move: Callable[[Tensor], Tensor]) -> Value:
        """Return the value of a tensor whose numbers `move` has put elsewhere."""

        def moved(layer: Layer) -> Layer:
            return replace(layer, labels=squash(move(layer.labels.expand(self.shape))))

        if self.constant is not None:
            constant = move(self.constant)
            return Value(tuple(constant.shape), (), constant)
        shape = tuple(move(torch.zeros(()).expand(self.shape)).shape)
        return Value(shape, tuple(moved(layer) for layer in self.layers))

    def with_order(self, order: Callable[[int], int], why: str) -> Value:
        """Return the value with other orders of vanishing; `why` is kept where one falls to 0."""
        layers = [
            replace(
                layer,
                order=(k := order(layer.order)),
                why=why if k == 0 < layer.order else layer.why,
                source=None,
            )
            for layer in self.layers
        ]
        return Value(self.shape, tuple(layers))

    def bent(self, why: str) -> Value:
        """Return the value after an operation with a kink at zero."""
        layers = [replace(layer, kink=layer.kink or why, source=None) for layer in self.layers]
        return replace(self, layers=tuple(layers))


def squash(labels: Tensor) -> Tensor:
    """Give size 1 to the dimensions along which `labels` does not vary."""
    for d in range(labels.ndim):
        first = labels.narrow(d, 0, 1) if labels.shape[d] else labels
        if labels.shape[d] > 1 and (labels.stride(d) == 0 or torch.equal(labels, first.expand_as(labels))):
            labels = first
    return labels


def varies(value: Value, dims: Iterable[int]) -> bool:
    """Whether the tensor's numbers may differ along some of `dims`."""
    dims = [d for d in dims if value.shape[d] > 1]
    if value.constant is None or not dims:
        return bool(dims)
    return any(squash(value.constant).shape[d] > 1 for d in dims)


class Axes:
    """The rules, and the atoms that they unite."""

    def __init__(self, atoms: Atoms) -> None:
        self.atoms = atoms

    def settle(self, value: Value) -> Value:
        """Bring the labels up to date; layers of a single unit end."""
        layers = []
        for layer in value.layers:
            labels = squash(self.atoms.find(layer.labels))
            layer = replace(layer, labels=labels)
            if layer.support:
                layers.append(layer)
            elif not layer.block:
                self.atoms.fix(labels.reshape(-1))
        return replace(value, layers=tuple(layers))

    def elementwise(
        self,
        shape: Sequence[int],
        values: Sequence[Value],
        order: Callable[[list[int]], int],
        where: str,
        why: str | None = None,
        bends: Callable[[list[int]], bool] = lambda orders: False,
    ) -> Value:
        """Return the value of an elementwise operation.

        Args:
            shape: of the result.
            values: of the tensors that are broadcast together.
            order: the result's order of vanishing, from those of the tensors.
            where: how to name the operation.
            why: what to say where its result does not vanish with a unit (default: it does not map 0 to 0).
            bends: whether it has a kink where tensors of such orders vanish.
        """
        why = f"{where} does not map 0 to 0" if why is None else why
        values = [self.settle(value.aligned(len(shape))) for value in values]
        layers = []
        for family in self._meet(values, where):
            orders = [family.order_of(k, value) for k, value in enumerate(values)]
            k = order(orders)
            before = next((layer.why for _, layer in family.layers if layer.why), "")
            labels = squash(self.atoms.find(family.labels()))
            kink = next((layer.kink for _, layer in family.layers + family.members if layer.kink), "")
            if not kink and bends(orders):
                kink = f"{where} has a kink at 0"
            layers.append(Layer(labels, k, family.block, before if k or before else why, kink=kink))
        result = self.settle(Value(tuple(shape), tuple(layers)))
        return replace(result, layers=_distinct(result.layers))

    def _meet(self, values: Sequence[Value], where: str) -> list[Family]:
        """Unite, join or fix what meets; return the layers of the result, each with those that made it."""
        families = [Family([(k, layer)]) for k, value in enumerate(values) for layer in value.layers]
        apart = [
            (one, other)
            for n, one in enumerate(families)
            for other in families[:n]
            if one.place != other.place and one.layer.support & other.layer.support
        ]
        met = [(one, other, _pairs(one.layer, other.layer)) for one, other in apart]
        grades: dict[tuple[int, int], int] = {}  # how well a layer fits the best of those at a place
        for one, other, pairs in met:
            for a, b in ((one, other), (other, one)):
                grades[id(a), b.place] = max(_fit(*pairs), grades.get((id(a), b.place), 0))
        found, related = [], set()
        for one, other, pairs in met:
            fit, alike = _fit(*pairs), not (one.layer.block or other.layer.block) and one.nested(other)
            if alike and fit < max(grades[id(one), other.place], grades[id(other), one.place]):
                continue  # either has a better match among the layers that lie on the same numbers
            related |= {(id(one), other.place), (id(other), one.place)}
            found += self._relate(one, other, pairs, fit == EXACT)
        for family in families:
            for k, value in enumerate(values):
                alone = k != family.place and (id(family), k) not in related
                if alone and varies(value, family.layer.support):
                    self._against(family.layer, value, where)
        for family in families:
            family.gather()
        return [family for family in families if family.home is family] + found

    def _relate(self, one: Family, other: Family, pairs: tuple[Tensor, Tensor], exact: bool) -> list[Family]:
        """Let two layers meet; return the blocks that come of it."""
        a, b = one.layer, other.layer
        if exact or (one.nested(other) and a.block == b.block):
            self.atoms.union(*pairs)
            one.merge(other)
        elif a.block != b.block:
            block, unit, (blocks, units) = (one, other, pairs) if a.block else (other, one, pairs[::-1])
            self.atoms.join(blocks, units)
            block.members.append((unit.place, unit.layer))
        elif not a.block:
            labels = self._blocks_of(a.labels, a.support & b.support)
            for layer in (a, b):
                self.atoms.join(*torch.broadcast_tensors(labels, layer.labels))
            block = Family([(one.place, Layer(labels, a.order, True))])
            block.members.append((other.place, b))
            return [block]
        return []

    def _against(self, layer: Layer, other: Value, where: str) -> None:
        """Meet numbers that differ along the layer and belong to no unit."""
        if other.zero:
            return
        if other.constant is None:
            self.atoms.fix(layer.labels.reshape(-1))
            return
        along = sorted(layer.support)
        sizes = [layer.labels.shape[d] if d in layer.support else size for d, size in enumerate(other.shape)]
        numbers = other.constant.expand(sizes)
        front = numbers.permute(*along, *[d for d in range(numbers.ndim) if d not in layer.support])
        _, colours = front.reshape(math.prod(sizes[d] for d in along), -1).unique(dim=0, return_inverse=True)
        self.atoms.weigh(
            layer.labels.reshape(-1),
            colours,
            f"{where} meets the units with fixed numbers that differ between them",
        )

    def _blocks_of(self, labels: Tensor, kept: frozenset[int]) -> Tensor:
        """Return fresh atoms for the positions along `kept`, the same where the labels are."""
        order = sorted(kept) + [d for d in range(labels.ndim) if d not in kept]
        front = labels.permute(order)
        count = math.prod(front.shape[: len(kept)])
        _, which = front.reshape(count, -1).unique(dim=0, return_inverse=True)
        fresh = self.atoms.fresh(int(which.max()) + 1)
        shape = [labels.shape[d] if d in kept else 1 for d in range(labels.ndim)]
        return fresh[which].reshape(shape)

    def reduce(
        self,
        value: Value,
        dims: Iterable[int],
        why: str,
        *,
        power: int = 1,
        reads: bool = False,
        heads: bool = False,
    ) -> Value:
        """Return the value of a symmetric reduction (sum, mean, maximum) that keeps dimensions of size 1.

        Args:
            value: of the tensor.
            dims: summed over.
            why: how to name the operation where it lets a unit move the others.
            power: 2 for sums of squares.
            reads: whether it sums what outgoing weights have multiplied: then a unit of value zero adds nothing, and
                two equal ones add what one with the sum of their outgoing weights does.
            heads: whether it sums a product of two activations: the blocks that come of it are heads.
        """
        value = self.settle(value)
        gone = frozenset(d for d in dims if value.shape[d] > 1)
        layers = []
        for layer in value.layers:
            over, kept = layer.support & gone, layer.support - gone
            if not over:
                layers.append(replace(layer, order=min(NEVER, layer.order * power), source=None))
                continue
            if layer.order * power < 2:
                self.atoms.break_sign(layer.labels, layer.why or why, blocks=not kept)
            elif layer.order * power == 2 and layer.kink:
                self.atoms.bend(layer.labels, layer.kink, blocks=not kept)
            if not reads:
                self.atoms.couple(layer.labels)
            ended = self._end(layer, kept, power)
            if heads:
                self.atoms.heads += [block.labels.reshape(-1) for block in ended]
            layers += ended
        shape = tuple(1 if d in gone else size for d, size in enumerate(value.shape))
        return Value(shape, tuple(layers))

    def _end(self, layer: Layer, kept: frozenset[int], power: int) -> list[Layer]:
        """End a layer in a sum; what it still varies along becomes blocks."""
        if not kept:
            labels, counts = layer.labels.unique(return_counts=True)
            self.atoms.colour(labels, counts)
            return []
        blocks = self._blocks_of(layer.labels, kept)
        if not layer.block:
            self.atoms.join(*torch.broadcast_tensors(blocks, layer.labels))
        return [Layer(blocks, min(NEVER, layer.order * power), True, layer.why, kink=layer.kink)]

    def opaque(self, value: Value, why: str) -> None:
        """Give up on what flows into an operation whose effect on units is not known."""
        for layer in self.settle(value).layers:
            self.atoms.break_sign(layer.labels, why)
            self.atoms.break_permutation(layer.labels, why)
            self.atoms.couple(layer.labels)


class Family:
    """Layers of several tensors, with the place of each tensor, that become one layer of the result."""

    def __init__(self, layers: list[tuple[int, Layer]]) -> None:
        self.place, self.layer = layers[0]
        self.layers = layers
        self.members: list[tuple[int, Layer]] = []
        self.home = self
        self.block = self.layer.block

    def nested(self, other: Family) -> bool:
        """Whether one of the two layers varies along no dimension that the other does not."""
        a, b = self.layer.support, other.layer.support
        return a <= b or b <= a

    def merge(self, other: Family) -> None:
        """Become one family with another."""
        a, b = self.last(), other.last()
        b.home = a

    def last(self) -> Family:
        """Return the family that this one has become part of."""
        return self if self.home is self else self.home.last()

    def gather(self) -> None:
        """Hand what is known to the family that this one has become part of."""
        home = self.home = self.last()
        if home is not self:
            home.layers = home.layers + self.layers
            home.members = home.members + self.members
            home.block = home.block and self.block

    def order_of(self, place: int, value: Value) -> int:
        """Return the order with which the tensor at `place` vanishes with a unit of this family."""
        if value.zero:
            return NEVER
        return max((layer.order for at, layer in self.layers + self.members if at == place), default=0)

    def labels(self) -> Tensor:
        """Return the labels of all layers together: where one is free, another's."""
        together = torch.broadcast_tensors(*[layer.labels for _, layer in self.layers])
        result = together[0]
        for labels in together[1:]:
            result = torch.where(result < 0, labels, result)
        return result


def _pairs(a: Layer, b: Layer) -> tuple[Tensor, Tensor]:
    """Return the pairs of labels that lie on one number."""
    left, right = torch.broadcast_tensors(a.labels, b.labels)
    size = int(right.max()) + 2
    codes = ((left + 1) * size + right + 1).unique()
    return codes // size - 1, codes % size - 1


EXACT, SINGLE, MANY = 2, 1, 0


def _fit(a: Tensor, b: Tensor) -> int:
    """Whether the pairs match labels one to one, each of one side with a single one, or many with many."""
    seen = (a >= 0) & (b >= 0)
    a, b = a[seen], b[seen]
    single = (len(a.unique()) == len(a)) + (len(b.unique()) == len(b))
    return (MANY, SINGLE, EXACT)[single] if len(a) else MANY


def _distinct(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Drop layers whose labels another has too, and keep the smaller order."""
    kept: list[Layer] = []
    for layer in layers:
        for k, other in enumerate(kept):
            if other.labels.shape == layer.labels.shape and torch.equal(other.labels, layer.labels):
                smaller = min(other, layer, key=lambda x: x.order)
                kept[k] = replace(smaller, kink=other.kink or layer.kink)
                break
        else:
            kept.append(layer)
    return tuple(kept)


def parameter_value(atoms: Atoms, name: str, shape: tuple[int, ...]) -> Value:
    """Return the value of a parameter: a layer of fresh atoms a dimension."""
    layers = []
    for d, size in enumerate(shape):
        if size > 1:
            along = [size if k == d else 1 for k in range(len(shape))]
            layers.append(Layer(atoms.fresh(size).reshape(along), source=(name, d)))
    return Value(shape, tuple(layers))


def free_labels(value: Value) -> int:
    """Return the label of a tensor without units: free if it is a constant zero, else fixed."""
    return FREE if value.zero else FIXED


def joined(values: Sequence[Value], dim: int, put: Callable[[list[Tensor]], Tensor]) -> list[Layer]:
    """Return the layers of tensors that `put` (cat, stack) puts side by side along `dim`."""
    result: list[Layer] = []
    used: set[tuple[int, int]] = set()
    for k, value in enumerate(values):
        for i, layer in enumerate(value.layers):
            if (k, i) in used:
                continue
            parts: list[Tensor] = []
            orders: list[int] = []
            whys, kinks = [layer.why], [layer.kink]
            for j, other in enumerate(values):
                match = None
                for m, candidate in enumerate(other.layers):
                    alike = candidate.block == layer.block and (candidate.support & layer.support or j == k)
                    if (j, m) not in used and alike and (j != k or m == i):
                        match = (m, candidate)
                        break
                if match is None:
                    content = varies(other, layer.support) or dim in layer.support
                    fill = free_labels(other) if content else FREE
                    parts.append(torch.full((1,) * len(other.shape), fill).expand(other.shape))
                    orders.append(NEVER if other.zero else (0 if not content else NEVER))
                else:
                    used.add((j, match[0]))
                    parts.append(match[1].labels.expand(other.shape))
                    orders.append(match[1].order)
                    whys.append(match[1].why)
                    kinks.append(match[1].kink)
            labels = squash(put(parts))
            why, kink = (next((text for text in texts if text), "") for texts in (whys, kinks))
            result.append(Layer(labels, min(orders), layer.block, why, kink=kink))
    return result
