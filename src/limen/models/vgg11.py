"""VGG configuration A for 32×32 images, without dropout: vgg11[-bn]."""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

from limen.models._norm import BatchNorm
from limen.models._parts import refusal

PATTERN = r"vgg11(?:-(?P<norm>bn))?"
NAMES = ("vgg11", "vgg11-bn")

POOL = 0
LAYERS = (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL)
SHRINK = 2 ** LAYERS.count(POOL)


def make(
    *, input_shape: tuple[int, ...], outputs: int, norm: Literal["none", "bn"] = "none"
) -> nn.Sequential:
    """Eight 3×3 convolutions (each with batch normalisation) and relu, five 2×2 max-pools, three linear layers.

    Channels 64 M 128 M 256 256 M 512 512 M 512 512 M, then 512 – 512 – 512 – outputs with relu between.
    Images of 32×32 leave one position of 512 channels; of larger ones the first linear layer takes all.

    Weights: everything is built with PyTorch's default draws; then each convolution, from the first to the
    last, gets weights normal(0, √(2/(9·channels out))) and zero biases. Linear layers keep their defaults.
    Batch normalisation uses the statistics of the batch at hand only.
    Source: Cohen et al., Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability,
    ICLR 2021; K. Simonyan and A. Zisserman, Very Deep Convolutional Networks, 2015.

    Args:
        input_shape: of one image, (channels, height, width), height and width at least 32.
        outputs: number of outputs.
        norm: `bn` for batch normalisation after each convolution.

    Raises:
        InputError: the inputs are not images, or smaller than 32×32.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < SHRINK:
        takes = f"images (channels, height, width) of at least {SHRINK} x {SHRINK} pixels"
        fix = "Choose a data set of such images (cifar10-1k, textures-1k), or a smaller net such as cnn-relu."
        raise refusal("vgg11", takes, input_shape, outputs, fix)
    channels, height, across = input_shape
    layers: list[nn.Module] = []
    for width in LAYERS:
        if width == POOL:
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        if norm == "bn":
            layers.append(BatchNorm(width))
        layers.append(nn.ReLU())
        channels = width
    features = channels * (height // SHRINK) * (across // SHRINK)
    layers += [nn.Flatten(), nn.Linear(features, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(512, outputs))
    for layer in net:
        match layer:
            case nn.Conv2d(weight=weight, bias=nn.Parameter() as bias):
                nn.init.normal_(weight, 0.0, math.sqrt(2 / (9 * len(weight))))
                nn.init.zeros_(bias)
    return net
