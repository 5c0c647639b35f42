"""Residual networks with GELU for small images: a 3×3 stem that keeps the resolution, no pooling."""

from __future__ import annotations

from typing import Literal

from torch import nn

from limen.models._parts import refusal
from limen.models._residual import STAGES, ResNet


def make(
    *,
    input_shape: tuple[int, ...],
    outputs: int,
    model_name: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet18",
) -> nn.Module:
    """The network of `resnet` with its stem and every activation replaced.

    The stem is a 3×3 convolution of stride 1, without pooling, and GELU stands where relu stood.

    Weights: those of `resnet`; then the new stem is drawn, with PyTorch's default initialisation.
    Source: Chen, Kunin, Yamamura, Ganguli, Stochastic Collapse, 2023.

    Args:
        input_shape: of one image, (channels, height, width), any size.
        outputs: number of outputs.
        model_name: which depth of `resnet`.

    Raises:
        InputError: the inputs are not images.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        fix = "Choose a data set of images (digits, cifar10-1k), or a fully connected net such as fc-tanh."
        raise refusal("resnetlowres", "images (channels, height, width)", input_shape, outputs, fix)
    net = ResNet(model_name, input_shape[0], outputs)
    net.conv1 = nn.Conv2d(input_shape[0], STAGES[0], 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    for module in list(net.modules()):
        for name, part in list(module.named_children()):
            match part:
                case nn.ReLU():
                    setattr(module, name, nn.GELU())
    return net
