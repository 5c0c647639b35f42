"""Handwritten digits, 8×8 pixels, ten classes, shipped with scikit-learn."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Interval

from limen.data import Dataset
from limen.randomness import generator

TRAIN = 1500


def make(
    *,
    n: Annotated[int, Interval(ge=1, le=1500)] = 1500,
    label_noise: Annotated[float, Interval(ge=0, le=1)] = 0.0,
    noise_seed: int = 0,
) -> Dataset:
    """Return 1500 training and 297 test images (1, 8, 8) in a fixed shuffled order, float64.

    Pixels are divided by 16, the mean image of the 1500 training images is subtracted, and all is divided by
    one number, the standard deviation (ddof 0) of their centred pixels. A smaller n keeps that and the test
    set.
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998 (the
    test part).

    Args:
        n: take the first n training images.
        label_noise: fraction of training labels (rounded to whole examples) replaced by a different class.
        noise_seed: chooses which labels are replaced, and by what.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = torch.randperm(len(raw.target), generator=generator(0, "digits/split"))
    images = torch.from_numpy(raw.images)[order][:, None].double() / 16
    labels = torch.from_numpy(raw.target)[order].long()
    images = images - images[:TRAIN].mean(0)
    images = images / images[:TRAIN].std(correction=0)
    targets = _corrupt(labels[:n], label_noise, noise_seed)
    return Dataset(images[:n].clone(), targets, images[TRAIN:].clone(), labels[TRAIN:].clone(), 10)


def _corrupt(labels: torch.Tensor, fraction: float, seed: int) -> torch.Tensor:
    draw = generator(seed, "digits/label_noise")
    chosen = torch.randperm(len(labels), generator=draw)[: round(fraction * len(labels))]
    shift = torch.randint(1, 10, (len(chosen),), generator=draw)
    out = labels.clone()
    out[chosen] = (labels[chosen] + shift) % 10
    return out
