"""The one-dimensional regression network: 1-100-1, tanh, no output bias."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt
from torch import nn

from limen.models._parts import refusal


def make(
    *, input_shape: tuple[int, ...], outputs: int, width: PositiveInt = 100, gain: PositiveFloat = 1.9
) -> nn.Sequential:
    """Return f(x) = Σ_i a_i tanh(b_i x + c_i), for the Chebyshev problems.

    Weights: both layers are built (default draws), then b is xavier-normal with `gain`, c zero, a
    xavier-normal. The published code always seeds this network with 0.
    Source: Cohen et al., Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability,
    ICLR 2021.

    Args:
        input_shape: of one input, (1,).
        outputs: 1.
        width: hidden units.
        gain: of the first layer's weights.

    Raises:
        InputError: the data set does not map one number to one number.
    """
    if tuple(input_shape) != (1,) or outputs != 1:
        fix = "Choose chebyshev-5-20, or a fully connected net such as fc-tanh."
        raise refusal("regression", "inputs of shape (1,) and gives 1 output", input_shape, outputs, fix)
    first = nn.Linear(1, width)
    second = nn.Linear(width, 1, bias=False)
    nn.init.xavier_normal_(first.weight, gain)
    nn.init.zeros_(first.bias)
    nn.init.xavier_normal_(second.weight)
    return nn.Sequential(first, nn.Tanh(), second)
