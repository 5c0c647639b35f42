"""What each tensor operation does to the layers of units: the interpreter of a tape.

Operations fall into few kinds: elementwise ones (the library marks them, and their behaviour at zero is found by
evaluating them), moves (views, slices, joins: what they do to numbers they do to labels), contractions,
normalisations and pools. What is in no kind is taken to destroy the symmetry of the units that flow into it.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from limen.symmetry.atoms import FIXED, FREE, Atoms
from limen.symmetry.axes import Axes, Layer, Value, joined, parameter_value, squash
from limen.symmetry.trace import Call, Ref, Tape
from limen.symmetry.vanishing import NEVER, Vanishing, kinked, order

MOVES = frozenset(
    (
        "_reshape_alias",
        "_unsafe_view",
        "alias",
        "as_strided",
        "channel_shuffle",
        "clone",
        "contiguous",
        "detach",
        "diagonal",
        "expand",
        "flip",
        "lift_fresh",
        "_to_copy",
        "movedim",
        "narrow",
        "native_channel_shuffle",
        "permute",
        "pixel_shuffle",
        "pixel_unshuffle",
        "repeat",
        "reshape",
        "roll",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "split_copy",
        "squeeze",
        "t",
        "transpose",
        "unbind",
        "unfold",
        "unsafe_chunk",
        "unsafe_split",
        "unsqueeze",
        "view",
        "view_copy",
    )
)

POOLS = frozenset(
    (
        "_adaptive_avg_pool1d",
        "_adaptive_avg_pool2d",
        "_adaptive_avg_pool3d",
        "adaptive_max_pool2d",
        "adaptive_max_pool3d",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "max_pool2d_with_indices",
        "max_pool3d_with_indices",
        "upsample_nearest1d",
        "upsample_nearest2d",
        "upsample_nearest3d",
        "upsample_linear1d",
        "upsample_bilinear2d",
        "upsample_bicubic2d",
        "upsample_trilinear3d",
        "reflection_pad1d",
        "reflection_pad2d",
        "replication_pad1d",
        "replication_pad2d",
        "_upsample_nearest_exact2d",
    )
)
"""What mixes positions (all dimensions from 2 on) within a channel, and keeps zero at zero."""

ELEMENTWISE = frozenset(
    (
        "hardswish",
        "_prelu_kernel",
        "log_sigmoid_forward",
    )
)
"""What the library does not mark as elementwise."""

SUMS = frozenset(
    (
        "sum",
        "mean",
        "amax",
        "amin",
        "max",
        "min",
    )
)
SPREADS = {"linalg_vector_norm": 1, "norm": 1, "var": 2, "std": 1, "var_mean": 2}

KINKED = frozenset(("amax", "amin", "max", "min", "linalg_vector_norm", "norm", "std"))
"""Those that are not smooth where all their numbers are zero."""

Reads = Mapping[tuple[str, int], str]


class Interpreter:
    """Walks through a tape and keeps the value of every tensor.

    Attributes:
        axes: the rules.
        parameters: value of each parameter and of each statistic of a norm layer, by name.
        roles: of a parameter's layer, by (parameter, layer), as its first use has it.
        statistics: buffers that norm layers keep for each channel.
        speaking: parameters whose slices, where they are all zero, leave a unit's value at zero. Of what is normalised
            that is the norm layer's scale and shift alone, whatever was written before it.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.axes = Axes(Atoms())
        self.atoms = self.axes.atoms
        self.values: dict[int, Value] = {}
        self.roles: dict[tuple[str, int], str] = {}
        self.parameters: dict[str, Value] = {}
        self.statistics: dict[str, Value] = {}
        self.names = {number: name for name, number in tape.buffers.items()}
        self.where = ""
        self.speaking: set[str] = set()
        self.normed: set[str] = set()  # scales and shifts of norm layers
        self.written: dict[int, frozenset[str]] = {
            number: frozenset([name]) for name, number in tape.parameters.items()
        }
        self.fixed = set(tape.parameters.values())  # what comes of parameters alone
        grouped = self._grouped()
        for name, number in tape.parameters.items():
            value = parameter_value(self.atoms, name, tape.shapes[number])
            if number in grouped:
                value = self._by_group(name, value, grouped[number])
            self.parameters[name] = self.values[number] = value

    def run(self) -> None:
        """Walk through the whole tape, then take the outputs' units from the hidden ones."""
        for call in self._alive():
            self.where = call.module
            self._step(call)
        for number in self.tape.outputs:
            for layer in self.axes.settle(self._value(Ref(number))).layers:
                self.atoms.fix(layer.labels.reshape(-1))

    def _alive(self) -> list[Call]:
        """Return the calls that the outputs depend on."""
        wanted, kept = set(self.tape.outputs), []
        for call in reversed(self.tape.calls):
            if any(ref.number in wanted for ref in _refs(call.out)):
                wanted.update(ref.number for ref in _refs((call.args, tuple(call.kwargs.values()))))
                kept.append(call)
        return kept[::-1]

    def _grouped(self) -> dict[int, int]:
        """Return how many groups of channels the convolution has that reads a weight, by the weight's number."""
        return {
            call.args[1].number: call.args[8]
            for call in self.tape.calls
            if _name(call) == "convolution" and call.args[8] > 1
        }

    def _by_group(self, name: str, value: Value, groups: int) -> Value:
        """Label the inputs of a grouped convolution's weight (O, I/g, …) by group and input, as each is its own."""
        outputs, inputs = value.shape[:2]
        layers = [layer for layer in value.layers if layer.support != {1}]
        if inputs > 1:
            fresh = self.atoms.fresh(groups * inputs).reshape(groups, 1, inputs)
            labels = fresh.expand(groups, outputs // groups, inputs).reshape(outputs, inputs)
            shape = (outputs, inputs, *[1] * (len(value.shape) - 2))
            layers.append(Layer(labels.reshape(shape), source=(name, 1)))
        return Value(value.shape, tuple(layers))

    def _value(self, leaf: Any) -> Value:
        number = leaf.number
        if number not in self.values:
            constant = self.tape.constants.get(number)
            self.values[number] = Value(self.tape.shapes[number], (), constant)
        return self.values[number]

    def _step(self, call: Call) -> None:
        numbers = [ref.number for ref in _refs(call.out)]
        if all(number in self.tape.constants for number in numbers):
            return
        name = _name(call)
        given = _refs((call.args, tuple(call.kwargs.values())))
        handler = HANDLERS.get(name)
        if handler is None and (name in ELEMENTWISE or torch.Tag.pointwise in call.op.tags):
            handler = Interpreter.elementwise
        if handler is None and any(self._value(ref).layers for ref in given):
            why = f"{self.here(name)} is an operation that this tracer does not know"
            for ref in given:
                self.axes.opaque(self._value(ref), why)
        results = handler(self, call) if handler else [Value(self.tape.shapes[n]) for n in numbers]
        self._write(name, given, numbers, joins=handler in JOINING)
        for number, value in zip(numbers, results, strict=False):
            self.values[number] = value

    def _write(self, name: str, given: Sequence[Ref], numbers: Sequence[int], *, joins: bool) -> None:
        """Note which parameters a value was last written by, and which of them are heard beyond it."""
        own = [ref.number for ref in given if ref.number in self.fixed]
        other = [
            ref.number
            for ref in given
            if ref.number not in self.fixed and ref.number not in self.tape.constants
        ]
        before = frozenset[str]().union(*(self.written.get(number, frozenset()) for number in other))
        written = frozenset[str]().union(*(self.written.get(number, frozenset()) for number in own))
        if not other:
            self.fixed.update(numbers)
        elif name in NORMS:
            self.normed |= written
            written = written or before  # without scale and shift, what was written is what is heard
        elif name == "mul":
            written = before  # a scale is silent where what it multiplies is
        elif joins:
            written |= before
        else:
            self.speaking |= before
        self.written.update(dict.fromkeys(numbers, written))

    def here(self, name: str) -> str:
        """Name an operation and the module it is in."""
        return f"{name} in {self.where}" if self.where else name

    def elementwise(self, call: Call) -> list[Value]:
        """Carry the layers through an operation that acts on each number alone."""
        given = _refs((call.args, tuple(call.kwargs.values())))
        values = [self._value(ref) for ref in given]
        dtypes = [self.tape.dtypes[ref.number] for ref in given]
        kind = "scale" if _name(call) in ("mul", "div") else "bias"
        for value in values:
            self._note(value, lambda layer: kind)

        def found(orders: list[int]) -> tuple[Any, tuple[Any, ...], tuple[tuple[str, Any], ...]]:
            left = [Vanishing(k, dtype) for k, dtype in zip(orders, dtypes, strict=True)]
            args = _fill(call.args, left)
            named = tuple((name, _fill(x, left)) for name, x in call.kwargs.items() if name in KEPT)
            return call.op, args, named

        if _name(call) == "div" and len(given) == 2:
            self._undefined(values[1], self.here("div"))
        shape = self.tape.shapes[_refs(call.out)[0].number]
        here = self.here(_name(call))
        return [
            self.axes.elementwise(
                shape, values, lambda k: order(*found(k)), here, bends=lambda k: kinked(*found(k))
            )
        ]

    def _undefined(self, below: Value, where: str) -> None:
        """Break the sign sets of units by whose numbers, zero there, something is divided."""
        for layer in below.layers:
            if 0 < layer.order < NEVER:
                self.atoms.break_sign(
                    layer.labels, f"{where} divides by what is zero where all of a unit's is"
                )

    def _note(self, value: Value, role: Callable[[Layer], str]) -> None:
        for layer in value.layers:
            if layer.source is not None:
                self.roles.setdefault(layer.source, role(layer))

    # Moves.

    def move(self, call: Call) -> list[Value]:
        """Do to the labels what is done to the numbers."""
        value = self.axes.settle(self._value(call.args[0]))
        numbers = [ref.number for ref in _refs(call.out)]
        named = {name: x for name, x in call.kwargs.items() if name in KEPT}

        def moved(k: int) -> Callable[[Tensor], Tensor]:
            def move(x: Tensor) -> Tensor:
                op = RELAXED.get(_name(call), call.op)
                out = op(x, *call.args[1:], **named)
                return out[k] if isinstance(out, (tuple, list)) else out

            return move

        if _name(call) in ("_to_copy", "clone", "contiguous", "detach", "alias", "lift_fresh"):
            return [value]
        return [
            replace(value.mapped(moved(k)), shape=self.tape.shapes[number])
            for k, number in enumerate(numbers)
        ]

    def join(self, call: Call) -> list[Value]:
        """Put tensors side by side."""
        dim = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)
        values = [self.axes.settle(self._value(ref)) for ref in call.args[0]]
        number = _refs(call.out)[0].number
        if _name(call) == "stack":
            dim %= len(values[0].shape) + 1
            values = [value.mapped(lambda x: x.unsqueeze(dim)) for value in values]
        dim %= len(self.tape.shapes[number])
        values = [value for value in values if math.prod(value.shape)]
        layers = joined(values, dim, lambda parts: torch.cat(parts, dim))
        return [Value(self.tape.shapes[number], tuple(layers))]

    def pad(self, call: Call) -> list[Value]:
        """Put constants around a tensor: zeros look the same from every unit."""
        value = self.axes.settle(self._value(call.args[0]))
        pads, fill = call.args[1], call.args[2] if len(call.args) > 2 else 0
        ndim = len(value.shape)
        padded = {ndim - 1 - k // 2 for k, size in enumerate(pads) if size}
        layers = []
        for layer in value.layers:
            labels = layer.labels
            if layer.support & padded:
                label = FREE if fill == 0 else FIXED
                labels = torch.constant_pad_nd(labels.expand(value.shape), pads, label)
            k = layer.order if fill == 0 else 0
            why = layer.why or ("" if fill == 0 else f"{self.here('padding')} with {fill}")
            layers.append(Layer(squash(labels), k, layer.block, why, kink=layer.kink))
        return [Value(self.tape.shapes[_refs(call.out)[0].number], tuple(layers))]

    def look_up(self, call: Call) -> list[Value]:
        """Take rows of a table: they are chosen by the data, so only the columns stay units."""
        table, index = self.axes.settle(self._value(call.args[0])), self._value(call.args[1])
        self._note(table, lambda layer: "out" if layer.support == {0} else "in")
        shape = (*index.shape, *table.shape[1:])
        layers = []
        for layer in table.layers:
            if 0 not in layer.support:
                labels = layer.labels.reshape(*[1] * len(index.shape), *layer.labels.shape[1:])
                layers.append(replace(layer, labels=labels, source=None))
            elif index.constant is not None:
                layers.append(
                    replace(
                        layer, labels=squash(layer.labels.expand(table.shape)[index.constant]), source=None
                    )
                )
            else:
                self.atoms.fix(layer.labels.reshape(-1))
        return [Value(shape, tuple(layers))]

    def index(self, call: Call) -> list[Value]:
        """Take elements by tensors of positions; units chosen by the data end."""
        value = self.axes.settle(self._value(call.args[0]))
        single = _name(call) == "index_select"
        chosen = [None] * call.args[1] + [call.args[2]] if single else list(call.args[1])
        values = [None if ref is None else self._value(ref) for ref in chosen]
        known = all(index is None or index.constant is not None for index in values)
        dims = {d for d, index in enumerate(values) if index is not None}
        layers = []
        for layer in value.layers:
            if not known and layer.support & dims:
                self.atoms.fix(layer.labels.reshape(-1))
            else:
                layers.append(layer)
        real = [
            None
            if index is None
            else (
                index.constant if index.constant is not None else torch.zeros(index.shape, dtype=torch.int64)
            )
            for index in values
        ]

        def move(x: Tensor) -> Tensor:
            if single:
                return x.index_select(call.args[1], real[-1])  # type: ignore[arg-type]
            return torch.ops.aten.index.Tensor(x, real)

        return [Value(value.shape, tuple(layers)).mapped(move)]

    # Contractions.

    def product(self, shape: Sequence[int], a: Value, b: Value, over: Sequence[int], why: str) -> Value:
        """Multiply two tensors elementwise in a common index space, and sum over the dimensions `over`."""
        for value in (a, b):
            self._note(value, lambda layer: "out" if layer.support & set(over) else "in")
        reads = any(layer.source and layer.support & set(over) for value in (a, b) for layer in value.layers)
        full = self.axes.elementwise(shape, [a, b], lambda orders: min(NEVER, sum(orders)), why)
        unread = f"{why} reads units that are not zero where all that is theirs is"
        return self.axes.reduce(full, over, unread, reads=reads, heads=not reads)

    def matmul(self, call: Call) -> list[Value]:
        """Multiply matrices (i, k) (k, j), perhaps in batches, and perhaps add a third tensor."""
        name = _name(call)
        added = name in ("addmm", "baddbmm", "addmv", "addbmm")
        a, b = (self.axes.settle(self._value(ref)) for ref in call.args[1 if added else 0 :][:2])
        out = self.tape.shapes[_refs(call.out)[0].number]
        why = self.here("a product")
        if name in ("mv", "addmv", "dot"):
            b = b.mapped(lambda x: x.unsqueeze(-1))
        if name == "dot":
            a = a.mapped(lambda x: x.unsqueeze(0))
        a, b = a.mapped(lambda x: x.unsqueeze(-1)), b.mapped(lambda x: x.unsqueeze(-3))
        space = torch.broadcast_shapes(a.shape, b.shape)
        result = self.product(space, a, b, [len(space) - 2], why).mapped(lambda x: x.squeeze(-2))
        if name in ("mv", "addmv", "dot"):
            result = result.mapped(lambda x: x.squeeze(-1))
        if added:
            result = self.add(result, self._value(call.args[0]))
        return [replace(result, shape=out)]

    def add(self, value: Value, other: Value, role: str = "bias") -> Value:
        """Add a bias."""
        self._note(other, lambda layer: role)
        shape = torch.broadcast_shapes(value.shape, other.shape)
        return self.axes.elementwise(shape, [value, other], min, self.here("a sum"))

    def multiply(self, value: Value, other: Value, role: str = "scale") -> Value:
        """Multiply by a scale."""
        self._note(other, lambda layer: role)
        shape = torch.broadcast_shapes(value.shape, other.shape)
        return self.axes.elementwise(
            shape, [value, other], lambda k: min(NEVER, sum(k)), self.here("a product")
        )

    def convolution(self, call: Call) -> list[Value]:
        """Contract channels, in groups; positions are mixed within each channel."""
        x, w = (self._without_positions(self._value(ref)) for ref in call.args[:2])
        transposed, groups = call.args[6], call.args[8]
        n, inputs = x.shape[:2]
        out = self.tape.shapes[_refs(call.out)[0].number]
        outputs, each = out[1], inputs // groups
        # in the index space (n, groups, outputs of a group, inputs of a group)
        x = x.mapped(lambda t: t.flatten(2)[:, :, 0].reshape(n, groups, 1, each))
        front = w.shape[:2]

        def arrange(t: Tensor) -> Tensor:
            t = t.reshape(*front, -1)[:, :, 0]
            if transposed:  # (I, O/g)
                return t.reshape(1, groups, each, outputs // groups).transpose(2, 3)
            return t.reshape(1, groups, outputs // groups, each)

        depthwise = groups > 1 and each == 1
        if depthwise:
            self._note(w, lambda layer: "scale")
        w = w.mapped(arrange)
        space = (n, groups, outputs // groups, each)
        result = self.product(space, x, w, [3], self.here("a convolution"))
        result = result.mapped(lambda t: t.reshape(n, outputs))
        if call.args[2] is not None:
            result = self.add(result, self._value(call.args[2]))
        back = [1] * (len(out) - 2)
        return [replace(result.mapped(lambda t: t.reshape(n, outputs, *back)), shape=out)]

    def _without_positions(self, value: Value) -> Value:
        """Take units that lie along positions (dimensions from 2 on) from the hidden ones."""
        value = self.axes.settle(value)
        layers = []
        for layer in value.layers:
            if any(d >= 2 for d in layer.support):
                self.atoms.fix(layer.labels.reshape(-1))
            else:
                layers.append(layer)
        return replace(value, layers=tuple(layers))

    def pool(self, call: Call) -> list[Value]:
        """Mix positions within each channel."""
        value = self._value(call.args[0])
        shape = self.tape.shapes[_refs(call.out)[0].number]
        spatial = {"1d": 1, "2d": 2, "3d": 3}[next(k for k in ("1d", "2d", "3d") if k in _name(call))]
        first = len(value.shape) - spatial
        value = self.axes.settle(value)
        layers = []
        for layer in value.layers:
            if any(d >= first for d in layer.support):
                self.atoms.fix(layer.labels.reshape(-1))
            else:
                layers.append(replace(layer, source=None))
        pooled = Value(shape, tuple(layers))
        return [pooled.bent(f"{self.here(_name(call))} has a kink at 0") if "max" in _name(call) else pooled]

    # Reductions and normalisations.

    def total(self, call: Call) -> list[Value]:
        """Sum, average or take the largest over dimensions."""
        value = self._value(call.args[0])
        power = SPREADS.get(_name(call), 1)
        dims, keep = _reduced(call, len(value.shape))
        why = self.sums_up(_name(call))
        if _name(call) in KINKED:
            value = self.axes.settle(value).bent(f"{self.here(_name(call))} has a kink at 0")
        result = self.axes.reduce(value, dims, why, power=power)
        if not keep:
            result = result.mapped(lambda x: _drop(x, dims))
        shapes = [self.tape.shapes[ref.number] for ref in _refs(call.out)]
        return [replace(result, shape=shape) for shape in shapes]

    def sums_up(self, name: str) -> str:
        """Say what a reduction over units does to the sign set."""
        return f"{self.here(name)} runs over the units, so one that vanishes still moves the others"

    def softmax(self, call: Call) -> list[Value]:
        """exp(x) over its sum: of zeros it is not zero."""
        value = self._value(call.args[0])
        why = f"{self.here('softmax')} does not map 0 to 0"
        lifted = self.axes.settle(value).with_order(lambda k: 0, why)
        total = self.axes.reduce(lifted, [call.args[1] % len(value.shape)], self.sums_up("softmax"))
        return [self.axes.elementwise(value.shape, [lifted, total], lambda k: 0, why)]

    def standardise(self, value: Value, dims: Sequence[int], why: str) -> Value:
        """Subtract the mean and divide by the spread, both over `dims`."""
        mean = self.axes.reduce(value, dims, why)
        centred = self.axes.elementwise(value.shape, [value, mean], min, self.here("a norm"), why)
        spread = self.axes.reduce(centred, dims, why, power=2).with_order(lambda k: 0, why)
        return self.axes.elementwise(value.shape, [centred, spread], lambda k: min(NEVER, sum(k)), why)

    def affine(self, value: Value, weight: Any, bias: Any, shape: Sequence[int]) -> Value:
        """Apply the scale and the shift of a norm layer, seen as tensors of `shape`."""
        if weight is not None:
            value = self.multiply(value, self._value(weight).mapped(lambda x: x.reshape(shape)))
        if bias is not None:
            value = self.add(value, self._value(bias).mapped(lambda x: x.reshape(shape)), "shift")
        return value

    def batch_norm(self, call: Call) -> list[Value]:
        """Normalise each channel by itself: scale, shift and statistics belong to its unit."""
        value = self._value(call.args[0])
        shape = (1, -1, *[1] * (len(value.shape) - 2))
        for ref in call.args[3:5]:
            name = self.names.get(ref.number) if ref is not None else None
            if name is not None:
                if name not in self.statistics:
                    self.statistics[name] = parameter_value(self.atoms, name, self.tape.shapes[ref.number])
                moments = self.statistics[name].mapped(lambda x: x.reshape(shape))
                value = self.axes.elementwise(
                    value.shape, [value, moments], lambda k: k[0], self.here("batch norm")
                )
        return [self.affine(value, call.args[1], call.args[2], shape)]

    def layer_norm(self, call: Call) -> list[Value]:
        """Normalise over the last dimensions, which couples the units along them."""
        value, dims = self._value(call.args[0]), len(call.args[1])
        over = range(len(value.shape) - dims, len(value.shape))
        why = f"{self.here('layer norm')} subtracts a mean over units, so one that vanishes still moves the others"
        return [
            self.affine(self.standardise(value, over, why), call.args[2], call.args[3], tuple(call.args[1]))
        ]

    def group_norm(self, call: Call) -> list[Value]:
        """Normalise over groups of channels, which couples the units of a group."""
        value, groups = self._value(call.args[0]), call.args[6]
        n, channels = value.shape[:2]
        why = f"{self.here('group norm')} subtracts a mean over units, so one that vanishes still moves the others"
        apart = value.mapped(lambda x: x.reshape(n, groups, channels // groups, -1))
        normed = self.standardise(apart, (2, 3), why).mapped(lambda x: x.reshape(value.shape))
        return [self.affine(normed, call.args[1], call.args[2], (1, -1, *[1] * (len(value.shape) - 2)))]

    def weight_norm(self, call: Call) -> list[Value]:
        """Return g · v / |v|, the norm over all dimensions but one."""
        v, g = (self._value(ref) for ref in call.args[:2])
        dim = call.args[2] if len(call.args) > 2 else 0
        over = [d for d in range(len(v.shape)) if d != dim]
        length = self.axes.reduce(v, over, self.sums_up("weight norm"))
        self._note(v, lambda layer: "in" if layer.support == {0} else "out")
        self._undefined(v, self.here("weight norm"))
        unit = self.axes.elementwise(
            v.shape, [v, length], lambda k: max(0, k[0] - k[1]), self.here("weight norm")
        )
        return [self.multiply(unit, g), length]

    def dropout(self, call: Call) -> list[Value]:
        """Change nothing now; in training each unit has a mask of its own."""
        value = self.axes.settle(self._value(call.args[0]))
        for layer in value.layers:
            self.atoms.drop(layer.labels, f"dropout in {self.where} draws another mask for each unit")
        return [value]

    def gated(self, call: Call) -> list[Value]:
        """Multiply one half by the sigmoid of the other."""
        value = self.axes.settle(self._value(call.args[0]))
        dim = call.args[1] if len(call.args) > 1 else -1
        halves = [value.mapped(lambda x, k=k: x.chunk(2, dim)[k]) for k in range(2)]  # type: ignore[misc]
        shape = halves[0].shape
        return [self.axes.elementwise(shape, halves, lambda k: k[0], self.here("glu"))]


KEPT = frozenset(
    ("approximate", "alpha", "value", "rounding_mode", "dims", "dim", "min", "max", "beta", "threshold")
)
"""Keyword arguments that matter for labels; others name types and layouts."""

RELAXED: Mapping[str, Any] = {
    "view": lambda x, size: x.reshape(size),
    "_unsafe_view": lambda x, size: x.reshape(size),
    "_reshape_alias": lambda x, size, stride: x.reshape(size),
}

NORMS = ("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training")

HANDLERS: Mapping[str, Callable[[Interpreter, Call], list[Value]]] = {
    **dict.fromkeys(MOVES, Interpreter.move),
    **dict.fromkeys(POOLS, Interpreter.pool),
    **dict.fromkeys((*SUMS, *SPREADS), Interpreter.total),
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot"), Interpreter.matmul),
    **dict.fromkeys(("cat", "stack"), Interpreter.join),
    **dict.fromkeys(("index", "index_select"), Interpreter.index),
    **dict.fromkeys(("_softmax", "_log_softmax", "_safe_softmax"), Interpreter.softmax),
    **dict.fromkeys(NORMS, Interpreter.batch_norm),
    "constant_pad_nd": Interpreter.pad,
    "convolution": Interpreter.convolution,
    "embedding": Interpreter.look_up,
    "glu": Interpreter.gated,
    "native_dropout": Interpreter.dropout,
    "native_group_norm": Interpreter.group_norm,
    "native_layer_norm": Interpreter.layer_norm,
    "_weight_norm_interface": Interpreter.weight_norm,
}

JOINING = (
    *(Interpreter.elementwise, Interpreter.move, Interpreter.pool, Interpreter.join, Interpreter.pad),
    *(Interpreter.dropout, Interpreter.gated),
)
"""What leaves values at zero where all that wrote them is."""


def _name(call: Call) -> str:
    return call.op.overloadpacket.__name__


def _refs(tree: Any) -> list[Ref]:
    match tree:
        case Ref():
            return [tree]
        case tuple() | list():
            return [ref for leaf in tree for ref in _refs(leaf)]
    return []


def _fill(tree: Any, left: list[Vanishing]) -> Any:
    """Replace each tensor by what is known of how it vanishes, in their order; lists become tuples."""
    match tree:
        case Ref():
            return left.pop(0)
        case tuple() | list():
            return tuple(_fill(leaf, left) for leaf in tree)
    return tree


def _reduced(call: Call, ndim: int) -> tuple[list[int], bool]:
    """Return the dimensions that a reduction sums over, and whether it keeps them with size 1."""
    names = [argument.name for argument in call.op._schema.arguments]
    given = dict(zip(names, call.args, strict=False)) | dict(call.kwargs)
    dims = given.get("dim")
    if dims is None or dims == []:
        return list(range(ndim)), bool(given.get("keepdim", False))
    dims = [dims] if isinstance(dims, int) else list(dims)
    return [d % ndim for d in dims], bool(given.get("keepdim", False))


def _drop(x: Tensor, dims: Sequence[int]) -> Tensor:
    return x.reshape([size for d, size in enumerate(x.shape) if d not in dims])
