"""Loss, accuracy and gradient of a small network as one straight list of tensor operations.

For a tiny network the time of a pass goes into Python and autograd bookkeeping, not arithmetic. Tracing the pass
once, forward and backward, leaves the same kernels in the same order, so the values are the same to the last bit.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn

aten = torch.ops.aten

Pass: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""Flat parameters (p,) to loss (0-dim), number of correct examples (0-dim, nan if undefined) and gradient (p,)."""

PATIENCE = 200
"""Eager passes before tracing, which costs as much as some thousand of them."""

SMALL = 20_000
"""Parameters above which the arithmetic outweighs what tracing saves."""

VIEWS = (
    aten.detach.default,
    aten.split_with_sizes.default,
    aten.t.default,
    aten.view.default,
    operator.getitem,
)
"""Other looks at the same numbers."""

FILLS = (aten.new_full.default, aten.ones_like.default)
"""What takes no more than shape and type from its input."""

BY_NUMBER = (aten.add.Tensor, aten.div.Tensor, aten.mul.Tensor, aten.sub.Tensor)
"""What may take a Python number, of which torch makes a tensor at every call."""

PURE = ("torch.nn.", "limen.")
"""Where a module's code must come from: a user's own may do in Python what a trace would freeze."""


def traceable(module: nn.Module) -> bool:
    """Whether every part of `module` is known to do nothing but tensor operations."""
    return all(f"{type(part).__module__}.".startswith(PURE) for part in module.modules())


def trace(eager: Pass, w: Tensor) -> Pass | None:
    """Return a faster pass with the values of `eager` at `w`, bit for bit, or None if there is none.

    It copies the parameters to a place of its own, so one thread at a time may use it.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    try:
        traced = make_fx(lambda w: eager(w))(w)  # make_fx counts the self of a bound method
    except RuntimeError:
        return None  # the pass reads a value to decide what to do: it stays eager
    _simplify(traced, w)
    _bind(traced.graph)
    traced.recompile()
    fast = traced.forward  # a module that is called looks for hooks first
    same = all(
        torch.equal(a, b) or (a.isnan().all() and b.isnan().all())
        for a, b in zip(fast(w), eager(w), strict=True)
    )
    return fast if same else None


def _simplify(traced: fx.GraphModule, w: Tensor) -> None:
    """Compute once what never changes, settle the parameters, and drop what leaves its input as it is."""
    graph = traced.graph
    (given,) = graph.find_nodes(op="placeholder")
    place = torch.full_like(w, torch.nan)
    views: dict[fx.Node, Any] = {given: place}
    constants: dict[fx.Node, Any] = {}
    for node in list(graph.nodes):
        inputs = node.all_input_nodes
        if node.op == "get_attr":
            constants[node] = getattr(traced, str(node.target))
        elif node.target in FILLS:
            like = node.meta["val"]  # a fake tensor: it knows shape and type, and holds nothing
            fill = node.args[2] if node.target is aten.new_full.default else 1
            constants[node] = torch.full(like.shape, fill, dtype=like.dtype, device=like.device)
        elif node.target in VIEWS and inputs[0] in views:
            views[node] = _value(node, views)
        elif node.op == "call_function" and inputs and all(x in constants for x in inputs):
            constants[node] = _value(node, constants)
        elif node.target is aten.detach.default or (node.target is aten.view.default and _same_shape(node)):
            node.replace_all_uses_with(inputs[0])
        elif node.target is aten.t.default and inputs[0].target is aten.t.default:
            node.replace_all_uses_with(inputs[0].args[0])
    with graph.inserting_after(given):
        settled = _keep(traced, place)
    for node, value in (views | constants).items():
        if node is not given and isinstance(value, Tensor):
            with graph.inserting_after(settled):
                node.replace_all_uses_with(_keep(traced, value))
    for node in graph.nodes:
        if node.target in BY_NUMBER and isinstance(node.args[1], float | int) and _exact(node):
            with graph.inserting_after(settled):
                number = torch.tensor(node.args[1], dtype=node.meta["val"].dtype)
                node.update_arg(1, _keep(traced, number))
    with graph.inserting_after(settled):
        graph.call_function(aten.copy_.default, (settled, given))
    graph.eliminate_dead_code()


def _value(node: fx.Node, known: Mapping[fx.Node, Any]) -> Any:
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda x: known[x])
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _same_shape(node: fx.Node) -> bool:
    return bool(node.meta["val"].shape == node.all_input_nodes[0].meta["val"].shape)


def _exact(node: fx.Node) -> bool:
    """Whether torch rounds a number to the type of the result first (in 16 bits it does not)."""
    return node.meta["val"].dtype in (torch.float32, torch.float64)


def _keep(traced: fx.GraphModule, value: Tensor) -> fx.Node:
    """Return a new node for `value`, which becomes a plain attribute: nn.Module looks its buffers up in Python."""
    name = f"kept_{len(vars(traced))}"
    vars(traced)[name] = value
    return traced.graph.create_node("get_attr", name)


def _bind(graph: fx.Graph) -> None:
    """Call operations through torch's own bindings: `torch.ops` spends as much on arguments as on the work."""
    for node in graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            name, first = node.target._opname, node.target._schema.arguments[0].name
            if first == "self" and name in vars(torch._C.TensorBase):
                node.op, node.target = "call_method", name
                continue
            for home in (torch, torch._C._nn):
                if isinstance(bound := vars(home).get(name), BuiltinFunctionType):
                    node.target = bound
