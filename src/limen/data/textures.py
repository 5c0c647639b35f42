"""Made-up textures in the shape of CIFAR-10, ten classes, whole or the first <k> thousand: textures[-<k>k]."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Interval
from pydantic import BeforeValidator
from torch import Tensor
from torch.nn import functional as F

from limen.data import Dataset, _images
from limen.randomness import generator

PATTERN = r"textures(?:-(?P<n>(?:[1-9]|[1-4]\d|50)k))?"
NAMES = ("textures-1k", "textures-2k", "textures-5k", "textures-10k", "textures-20k", "textures")

SIDE, CLASSES, BLOCK = 32, 10, 250
COLOURS = ((1.0, 0.4, -0.3), (-0.3, 1.0, 0.4), (0.4, -0.3, 1.0))


def make(
    *,
    n: Annotated[int, BeforeValidator(_images.count), Interval(ge=1, le=50_000)] = 50_000,
    n_test: Annotated[int, Interval(ge=1, le=10_000)] = 2000,
) -> Dataset:
    """Return n training and `n_test` test images (3, 32, 32) float32, procedural: nothing was photographed.

    An image of class c shows waves of wavelength 4 + 1.2·(c mod 5) pixels that run at an angle of 18°·(3c mod
    10), in a colour of the class, with a phase of its own, a turn of up to 8°, and smooth shadows; pixel
    noise is added. As the phase is uniform the classes have equal means, and a linear map sees little of them.
    Pixels are rounded to bytes, b = 128 + 50·x, and returned as (b − 128)/34: mean near 0, standard deviation
    near 1. Images are drawn in blocks from streams of their own, so the first images of every size are the same.

    Args:
        n: number of training images, also as "5k".
        n_test: number of test images.
    """
    inputs, targets = _draw("train", n)
    test_inputs, test_targets = _draw("test", n_test)
    return Dataset(inputs, targets, test_inputs, test_targets, CLASSES)


def _draw(part: str, n: int) -> tuple[Tensor, Tensor]:
    blocks = [_block(part, k) for k in range(math.ceil(n / BLOCK))]
    images, labels = (torch.cat(parts)[:n] for parts in zip(*blocks, strict=True))
    return images.contiguous(), labels.contiguous()


def _block(part: str, k: int) -> tuple[Tensor, Tensor]:
    """Return the k-th `BLOCK` images and labels of a part."""
    draw = generator(0, f"textures/{part}", k)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(BLOCK, *shape, generator=draw, dtype=torch.float64)

    labels = torch.randint(0, CLASSES, (BLOCK,), generator=draw)
    angle = math.pi / 10 * (3 * labels % 10) + math.radians(8) * (2 * uniform() - 1)
    frequency = 2 * math.pi / (4 + 1.2 * (labels % 5))
    at = torch.arange(SIDE, dtype=torch.float64)
    along = angle.cos()[:, None, None] * at + angle.sin()[:, None, None] * at[:, None]
    waves = torch.sin(frequency[:, None, None] * along + 2 * math.pi * uniform(1, 1))
    colour = torch.tensor(COLOURS, dtype=torch.float64)[labels % 3]
    shadows = F.interpolate(uniform(3, 4, 4) - 0.5, SIDE, mode="bilinear", align_corners=True)
    noise = torch.randn(BLOCK, 3, SIDE, SIDE, generator=draw, dtype=torch.float64)
    x = colour[:, :, None, None] * waves[:, None] + 1.5 * shadows + 0.4 * noise
    # whole bytes: the last bits of sin and cos, which differ between machines, are gone
    pixels = (128 + 50 * x).round().clamp(0, 255)
    return ((pixels - 128) / 34).float(), labels
