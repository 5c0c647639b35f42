"""VGG configuration D for 32×32 images: vgg16, vgg16gelu, vgg16bngelu, vgg16geludo (dropout)."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import nn

from limen.models._norm import BatchNorm
from limen.models._parts import refusal

PATTERN = r"vgg16(?:(?P<norm>bn)?(?P<activation>gelu)(?P<dropout>do)?)?"
NAMES = ("vgg16", "vgg16gelu", "vgg16bngelu", "vgg16geludo")

POOL = 0
LAYERS = (64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512, POOL)
SHRINK = 2 ** LAYERS.count(POOL)


def make(
    *,
    input_shape: tuple[int, ...],
    outputs: int,
    activation: Literal["relu", "gelu"] = "relu",
    norm: Literal["none", "bn"] = "none",
    dropout: Literal["none", "do"] = "none",
    hidden: PositiveInt = 512,
) -> nn.Sequential:
    """Thirteen 3×3 convolutions conv1 … conv13, a 2×2 max-pool after each group, then fc14, fc15, fc16.

    Channels 64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M; each convolution (batch-normalised) and
    each linear layer but the last has its activation after it. With dropout, half of the units of fc14 and fc15 are
    dropped in training; the network is handed over in evaluation mode, where none is.

    Weights: everything is built with PyTorch's default draws; then each convolution and linear layer, from the first
    to the last, gets kaiming-normal weights (fan in, gain √2) and zero biases.
    Source: Chen, Kunin, Yamamura, Ganguli, Stochastic Collapse, 2023; K. Simonyan and A. Zisserman, Very Deep
    Convolutional Networks, 2015.

    Args:
        input_shape: of one image, (channels, height, width), height and width at least 32.
        outputs: number of outputs.
        activation: after each layer but the last.
        norm: `bn` for batch normalisation after each convolution.
        dropout: `do` for dropout of a half after fc14 and fc15.
        hidden: units of fc14 and fc15.

    Raises:
        InputError: the inputs are not images, or smaller than 32×32.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < SHRINK:
        takes = f"images (channels, height, width) of at least {SHRINK} x {SHRINK} pixels"
        fix = "Choose a data set of such images (cifar10-1k, textures-1k), or a smaller net such as cnn-relu."
        raise refusal("vgg16", takes, input_shape, outputs, fix)
    act = nn.GELU if activation == "gelu" else nn.ReLU
    channels, height, across = input_shape
    net = nn.Sequential()
    number = pools = 0
    for width in LAYERS:
        if width == POOL:
            pools += 1
            net.add_module(f"pool{pools}", nn.MaxPool2d(2))
            continue
        number += 1
        net.add_module(f"conv{number}", nn.Conv2d(channels, width, 3, padding=1))
        if norm == "bn":
            net.add_module(f"bn{number}", BatchNorm(width))
        net.add_module(f"act{number}", act())
        channels = width
    net.add_module("flatten", nn.Flatten())
    features = channels * (height // SHRINK) * (across // SHRINK)
    for number, width in ((14, hidden), (15, hidden)):
        net.add_module(f"fc{number}", nn.Linear(features, width))
        net.add_module(f"act{number}", act())
        if dropout == "do":
            net.add_module(f"drop{number}", nn.Dropout(0.5))
        features = width
    net.add_module("fc16", nn.Linear(features, outputs))
    for layer in net:
        match layer:
            case nn.Conv2d(weight=weight, bias=nn.Parameter() as bias) | nn.Linear(weight=weight, bias=bias):
                nn.init.kaiming_normal_(weight)
                nn.init.zeros_(bias)
    return net if dropout == "none" else net.eval()
