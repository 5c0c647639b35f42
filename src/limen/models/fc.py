"""Fully connected networks: fc-{relu,elu,tanh,hardtanh,softplus}[-depthN]."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import PositiveInt
from torch import nn

from limen.models._parts import ACTIVATIONS, refusal

PATTERN = r"fc-(?P<activation>relu|elu|tanh|hardtanh|softplus)(?:-depth(?P<depth>[1-9]\d*))?"
NAMES = (
    "fc-tanh",
    "fc-relu",
    "fc-elu",
    "fc-hardtanh",
    "fc-softplus",
    "fc-tanh-depth1",
    "fc-tanh-depth2",
    "fc-tanh-depth3",
    "fc-tanh-depth4",
)


def make(
    *,
    input_shape: tuple[int, ...],
    outputs: int,
    activation: Literal["relu", "elu", "tanh", "hardtanh", "softplus"] = "tanh",
    depth: Annotated[int, Interval(ge=1, le=1000)] = 2,
    width: PositiveInt = 200,
) -> nn.Sequential:
    """Flatten, then `depth` times a linear layer to `width` units and the activation, then a linear layer.

    Weights: PyTorch's default initialisation, drawn from the first layer to the last.
    Source: Cohen et al., Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability,
    ICLR 2021.

    Args:
        input_shape: of one input, any shape with at least one dimension.
        outputs: number of outputs.
        activation: after each hidden layer.
        depth: number of hidden layers, at most 1000.
        width: units of each hidden layer.

    Raises:
        InputError: the inputs are single numbers without a dimension.
    """
    if not input_shape:
        fix = "Give the inputs as (n, 1) rather than (n,)."
        raise refusal("fc", "inputs of at least one dimension", input_shape, outputs, fix)
    layers: list[nn.Module] = [nn.Flatten()]
    features = math.prod(input_shape)
    for _ in range(depth):
        layers += [nn.Linear(features, width), ACTIVATIONS[activation]()]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, outputs))
