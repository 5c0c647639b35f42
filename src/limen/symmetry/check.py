"""The test that needs no theory: exchange the units of a group, and see whether the function changes."""

# mypy: disable-error-code="no-untyped-call, no-any-return"
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limen.symmetry.actions import permute
from limen.symmetry.groups import NeuronGroup
from limen.symmetry.trace import call_with, evaluating, tensors


def outputs(module: nn.Module, inputs: Any, state: Mapping[str, Tensor] | None = None) -> Tensor:
    """Return all outputs in evaluation mode as one vector, at the module's own state or another."""
    state = dict(module.state_dict() if state is None else state)
    with torch.no_grad(), evaluating(module):
        out = call_with(module, state, inputs if isinstance(inputs, tuple) else (inputs,))
    return torch.cat([x.reshape(-1) for x in tensors(out)])


def gap(reference: Tensor, other: Tensor) -> float:
    """Return the largest difference of two outputs, relative to the largest output."""
    return ((other - reference).abs().max() / reference.abs().max().clamp_min(1e-300)).item()


def exchange_gap(
    module: nn.Module,
    inputs: Any,
    group: NeuronGroup,
    order: Sequence[int] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> float:
    """Return how much the function changes (relative to its largest output) when a group's units are exchanged.

    Args:
        module: the network.
        inputs: an input (n, …), or a tuple of inputs.
        group: one of `neuron_groups(module, …)`.
        order: unit i becomes the former unit order[i]; by default all move on by one.
        state: parameters and buffers to use instead of the module's own.
    """
    order = [*range(1, group.size), 0] if order is None else order
    state = dict(module.state_dict() if state is None else state)
    return gap(outputs(module, inputs, state), outputs(module, inputs, permute(state, group, order)))
