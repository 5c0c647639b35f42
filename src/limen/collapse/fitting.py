"""The network that some weights belong to: an architecture by name, in the size that they have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limen import models
from limen.errors import InputError

INPUT_SHAPES = ((3, 32, 32), (1, 8, 8), (1, 28, 28), (3, 64, 64), (3, 224, 224), (1, 32, 32))
"""Of images, tried in this order; vectors of as many numbers as the first weight takes come first."""


def fitting(
    arch: str,
    weights: Mapping[str, Tensor],
    arguments: Mapping[str, Any] | None = None,
    input_shape: tuple[int, ...] | None = None,
    *,
    outputs: int | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[nn.Module, Tensor]:
    """Return the network `arch` with these weights, in evaluation mode, and an input for it (2, …).

    Where they are not known, the shape of its inputs and the number of its outputs are those for which all its
    parameters have the shapes of `weights`; of several shapes of images that do, the first serves as well as the
    others. The input is of zeros: real ones, or word numbers where the network refuses those.

    Args:
        arch: a model id of limen, or a user's `module:function`.
        weights: by name; buffers may be among them or not.
        arguments: further ones of the architecture.
        input_shape: of one input, where it is known.
        outputs: how many it has, where it is known.
        dtype: of inputs, where it is known.

    Raises:
        InputError: there is no such architecture, or it does not fit in any size.
    """
    reasons: list[str] = []
    for shape in [input_shape] if input_shape is not None else _shapes(weights):
        for count in _outputs(weights) if outputs is None else [outputs]:
            try:
                module = models.build(arch, input_shape=shape, outputs=count, arguments=arguments)
            except InputError as error:
                reasons.append(str(error))
                continue
            if (reason := _unlike(module, weights)) is None:
                module.load_state_dict(dict(weights), strict=False)
                module.eval()
                return module, torch.zeros(2, *shape, dtype=_dtype(module, shape) if dtype is None else dtype)
            reasons.append(f"{arch} for inputs {shape}: {reason}")
    shown = list(dict.fromkeys(reasons))[:3]
    raise InputError(
        f"arch {arch!r} does not fit the weights, for no size of inputs that was tried. {' '.join(shown)} "
        "Name another --arch, or say the shape of one input with --input_shape."
    )


def _shapes(weights: Mapping[str, Tensor]) -> Iterator[tuple[int, ...]]:
    first = next((x for x in weights.values() if x.ndim >= 2), None)
    if first is None or first.ndim == 2:
        if first is not None:
            yield (first.shape[1],)
        yield from INPUT_SHAPES
        return
    yield from (shape for shape in INPUT_SHAPES if shape[0] == first.shape[1])


def _outputs(weights: Mapping[str, Tensor]) -> Iterable[int]:
    last = [x.shape[0] for x in weights.values() if x.ndim == 2][-1:]
    return last or [x.shape[0] for x in weights.values() if x.ndim][-1:] or [1]


def _dtype(module: nn.Module, shape: tuple[int, ...]) -> torch.dtype:
    """Return the type of inputs that the network takes: float32, or int64 where it refuses that."""
    try:
        with torch.no_grad():
            module(torch.zeros(2, *shape))
    except (InputError, RuntimeError, TypeError, ValueError, IndexError):
        return torch.int64
    return torch.float32


def _unlike(module: nn.Module, weights: Mapping[str, Tensor]) -> str | None:
    """Say in what the parameters differ from the weights; None if in nothing."""
    own = {name: tuple(x.shape) for name, x in module.named_parameters()}
    missing = [name for name in own if name not in weights]
    if missing:
        return f"it has the parameter {missing[0]!r}, the weights have {', '.join(list(weights)[:4])}, …"
    for name, shape in own.items():
        if tuple(weights[name].shape) != shape:
            return f"{name} has shape {shape}, the weights have {tuple(weights[name].shape)}."
    known = {*own, *(name for name, _ in module.named_buffers())}
    extra = [name for name in weights if name not in known and not name.endswith(STATISTICS)]
    return f"the weights have {extra[0]!r}, it has not." if extra else None


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Buffers that a limen network does without."""
