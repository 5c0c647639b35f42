"""Residual networks as for ImageNet: resnet18, resnet34, resnet50, resnet101, resnet152."""

from __future__ import annotations

from typing import Literal

from torch import nn

from limen.models._parts import refusal
from limen.models._residual import ResNet

PATTERN = r"resnet|(?P<model_name>resnet(?:18|34|50|101|152))"
NAMES = ("resnet18",)


def make(
    *,
    input_shape: tuple[int, ...],
    outputs: int,
    model_name: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet18",
) -> nn.Module:
    """A 7×7 convolution of stride 2, max-pool, four stages of residual blocks, mean over space, linear.

    Names of parameters, weights and their draws are torchvision's: kaiming-normal convolutions (fan out, relu), default
    linear layer. Batch normalisation uses the statistics of the batch at hand, but where `limen train` gives it running
    ones.
    Source: K. He et al., Deep Residual Learning for Image Recognition, 2016.

    Args:
        input_shape: of one image, (channels, height, width), any size.
        outputs: number of outputs.
        model_name: how deep.

    Raises:
        InputError: the inputs are not images.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        fix = "Choose a data set of images (digits, cifar10-1k), or a fully connected net such as fc-tanh."
        raise refusal("resnet", "images (channels, height, width)", input_shape, outputs, fix)
    return ResNet(model_name, input_shape[0], outputs)
