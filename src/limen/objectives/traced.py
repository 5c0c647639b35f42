"""Loss, accuracy and gradient of a small network as one straight list of tensor operations.

For a tiny network the time of a pass goes into Python and autograd bookkeeping, not arithmetic. Tracing the pass
once, forward and backward, leaves the same kernels in the same order, so the values are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

Pass: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""Flat parameters (p,) to loss (0-dim), number of correct examples (0-dim, nan if undefined) and gradient (p,)."""

PATIENCE = 200
"""Eager passes before tracing, which costs as much as some thousand of them."""

SMALL = 20_000
"""Parameters above which the arithmetic outweighs what tracing saves."""

PURE = ("torch.nn.", "limen.")
"""Where a module's code must come from: a user's own may do in Python what a trace would freeze."""


def traceable(module: nn.Module) -> bool:
    """Whether every part of `module` is known to do nothing but tensor operations."""
    return all(f"{type(part).__module__}.".startswith(PURE) for part in module.modules())


def trace(eager: Pass, w: Tensor) -> Pass | None:
    """Return a faster pass with the values of `eager` at `w`, bit for bit, or None if there is none."""
    from torch.fx.experimental.proxy_tensor import make_fx

    try:
        traced = make_fx(lambda w: eager(w))(w)  # make_fx counts the self of a bound method
    except RuntimeError:
        return None  # the pass reads a value to decide what to do: it stays eager
    _simplify(traced)
    with torch.no_grad():
        found = traced(w)
    same = all(
        torch.equal(a, b) or (a.isnan().all() and b.isnan().all())
        for a, b in zip(found, eager(w), strict=True)
    )
    return traced if same else None


def _simplify(traced: torch.fx.GraphModule) -> None:
    """Drop detached copies and transposes that undo each other, and compute once what never changes."""
    aten = torch.ops.aten
    graph = traced.graph
    constants: dict[torch.fx.Node, Tensor] = {}
    for node in list(graph.nodes):
        inputs = node.all_input_nodes
        if node.target is aten.detach.default:
            node.replace_all_uses_with(node.args[0])
        elif node.target is aten.t.default and node.args[0].target is aten.t.default:
            node.replace_all_uses_with(node.args[0].args[0])
        elif node.op == "get_attr":
            constants[node] = getattr(traced, str(node.target))
        elif node.target is aten.ones_like.default:
            like = node.meta["val"]  # a fake tensor: it knows shape and type, and holds nothing
            _fold(traced, node, torch.ones(like.shape, dtype=like.dtype, device=like.device), constants)
        elif node.op == "call_function" and inputs and all(x in constants for x in inputs):
            known = torch.fx.node.map_arg((node.args, node.kwargs), lambda x: constants[x])
            _fold(traced, node, node.target(*known[0], **known[1]), constants)
    graph.eliminate_dead_code()
    traced.recompile()


def _fold(
    traced: torch.fx.GraphModule, node: torch.fx.Node, value: object, constants: dict[torch.fx.Node, Tensor]
) -> None:
    """Put a constant in the place of a node."""
    if not isinstance(value, torch.Tensor):
        return
    name = f"folded_{node.name}"
    traced.register_buffer(name, value)
    with traced.graph.inserting_before(node):
        constant = traced.graph.get_attr(name)
    node.replace_all_uses_with(constant)
    constants[constant] = value
