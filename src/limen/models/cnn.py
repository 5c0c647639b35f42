"""Small convolutional networks: cnn[-avgpool|-bn]-{relu,elu,tanh}."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import nn

from limen.models._norm import BatchNorm
from limen.models._parts import ACTIVATIONS, refusal

PATTERN = r"cnn(?:-(?P<pool>avgpool)|-(?P<norm>bn))?-(?P<activation>relu|elu|tanh)"
NAMES = (
    "cnn-relu",
    "cnn-elu",
    "cnn-tanh",
    "cnn-avgpool-relu",
    "cnn-avgpool-elu",
    "cnn-avgpool-tanh",
    "cnn-bn-relu",
    "cnn-bn-elu",
    "cnn-bn-tanh",
)


def make(
    *,
    input_shape: tuple[int, ...],
    outputs: int,
    activation: Literal["relu", "elu", "tanh"] = "relu",
    pool: Literal["maxpool", "avgpool"] = "maxpool",
    norm: Literal["none", "bn"] = "none",
    depth: PositiveInt = 2,
    width: PositiveInt = 32,
) -> nn.Sequential:
    """`depth` blocks of 3×3 convolution, activation, (batch normalisation,) 2×2 pooling; then a linear layer.

    Weights: PyTorch's default initialisation, drawn from the first layer to the last. Batch normalisation
    uses the statistics of the batch at hand only.
    Source: Cohen et al., Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability,
    ICLR 2021.

    Args:
        input_shape: of one image, (channels, height, width), height and width at least 2**depth.
        outputs: number of outputs.
        activation: after each convolution.
        pool: how 2×2 squares become one number.
        norm: `bn` for batch normalisation after each activation.
        depth: number of blocks.
        width: channels of each block.

    Raises:
        InputError: the inputs are not images, or too small ones.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 2**depth:
        takes = f"images (channels, height, width) of at least {2**depth} x {2**depth} pixels"
        fix = "Choose a data set of images (digits, cifar10-1k), or a fully connected net such as fc-tanh."
        raise refusal("cnn", takes, input_shape, outputs, fix)
    channels, height, across = input_shape
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(channels, width, 3, padding=1), ACTIVATIONS[activation]()]
        if norm == "bn":
            layers.append(BatchNorm(width))
        layers.append(nn.AvgPool2d(2) if pool == "avgpool" else nn.MaxPool2d(2))
        channels, height, across = width, height // 2, across // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * across, outputs))
