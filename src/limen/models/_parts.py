"""What the families share: activations by name, and the refusal of data that does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from limen.errors import InputError

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh,
    "softplus": nn.Softplus,
}


def refusal(model: str, takes: str, input_shape: tuple[int, ...], outputs: int, fix: str) -> InputError:
    """Return the error for data of a shape that `model` cannot take: what it takes, got, and the way out."""
    return InputError(
        f"{model} takes {takes}, but this data set has inputs of shape {tuple(input_shape)} "
        f"and {outputs} output{'' if outputs == 1 else 's'}. {fix}"
    )
