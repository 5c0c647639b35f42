"""Networks: one file a family, each exporting `make(*, input_shape, outputs, …) -> nn.Module` (see CONTRIBUTING.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from limen import registry
from limen.errors import InputError


def build(
    name: str,
    *,
    input_shape: tuple[int, ...],
    outputs: int,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return the network `name` with the weights that `torch.manual_seed(seed)` gives it, in float32 on the CPU.

    The caller's global random state is left as it was.

    Args:
        name: an id of ours, or a user's `module:function` (called with those of `input_shape`, `outputs` and
            `arguments` that it names).
        input_shape: shape of one input.
        outputs: number of outputs.
        seed: of the initial weights.
        arguments: further arguments of the family's `make`.

    Raises:
        InputError: the name or an argument does not fit, or the network cannot take such inputs.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        supplied = {"input_shape": input_shape, "outputs": outputs}
        module = registry.make("models", name, arguments or {}, supplied)
    if not isinstance(module, nn.Module):
        raise InputError(f"model {name!r}: expected a torch.nn.Module, got {type(module).__name__}.")
    return module
