"""The deep linear network: 20 square linear layers without biases."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import nn

from limen.models._parts import refusal


def make(
    *, input_shape: tuple[int, ...], outputs: int, depth: PositiveInt = 20, width: PositiveInt = 50
) -> nn.Sequential:
    """Return f(x) = W_depth … W_1 x with square matrices of `width`.

    Weights: each layer is xavier-normal, drawn right after it is built. The published code always seeds this
    network with 8 (and so L₀ = 1219.4 on linear-50-50).
    Source: Cohen et al., Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability,
    ICLR 2021.

    Args:
        input_shape: of one input, (width,).
        outputs: also `width`.
        depth: number of layers.
        width: number of units throughout.

    Raises:
        InputError: the data set does not map `width` numbers to `width` numbers.
    """
    if tuple(input_shape) != (width,) or outputs != width:
        takes = f"inputs of shape ({width},) and gives {width} outputs"
        square = len(input_shape) == 1 and input_shape[0] == outputs
        fix = (
            f"Give the model width={outputs}." if square else "Choose linear-50-50, or a net such as fc-tanh."
        )
        raise refusal("deeplinear", takes, input_shape, outputs, fix)
    layers = []
    for _ in range(depth):
        layer = nn.Linear(width, width, bias=False)
        nn.init.xavier_normal_(layer.weight)
        layers.append(layer)
    return nn.Sequential(*layers)
