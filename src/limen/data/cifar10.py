"""CIFAR-10, 32×32 colour images in ten classes, whole or the first <k> thousand: cifar10[-<k>k]."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Interval
from pydantic import BeforeValidator

from limen.data import Dataset, _cifar, _images
from limen.data._cifar import PIXELS, Examples
from limen.data._places import require_folder

PATTERN = r"cifar10(?:-(?P<n>(?:[1-9]|[1-4]\d|50)k))?"
NAMES = ("cifar10-1k", "cifar10-2k", "cifar10-5k", "cifar10-10k", "cifar10-20k", "cifar10")
SOURCE = {
    "url": "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "checksum": "md5:c58f30108f718f92721af3b95e74349a",
    "folder": "cifar-10-batches-py",
}

BATCH, CLASSES = 10_000, 10
FIX = "Run `limen data fetch cifar10` for a sound copy."


def make(
    *,
    data_dir: Path | str | None = None,
    n: Annotated[int, BeforeValidator(_images.count), Interval(ge=1, le=50_000)] = 50_000,
) -> Dataset:
    """Return the first n training images and all 10 000 test images, (3, 32, 32) float32.

    Pixels are divided by 255; then each pixel has its mean over all 50 000 training images subtracted and is
    divided by its standard deviation (ddof 0) over them, in float64. Pixels that never vary become 0.
    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009 (the "python version").

    Args:
        data_dir: the folder that holds `cifar-10-batches-py`, or is it; by default $DATASETS, $DATA_DIR, the
            cache.
        n: number of training images, also as "5k".

    Raises:
        DataError: the files are missing or are not CIFAR-10.
    """
    folder = require_folder("cifar10", SOURCE["folder"], "(the official 'python version')", data_dir)
    return _cifar.standardised(*read(folder), n, CLASSES)


def read(folder: Path) -> tuple[Examples, Examples]:
    """Return training and test (images (n, 3072) uint8, labels (n,)) of `folder`, after validation.

    Raises:
        DataError: a file is missing, damaged, or is not what the official archive holds.
    """
    images = np.empty((5 * BATCH, PIXELS), np.uint8)
    labels = np.empty(5 * BATCH, np.int64)
    for k in range(5):
        rows = slice(k * BATCH, (k + 1) * BATCH)
        images[rows], labels[rows] = _read_batch(folder / f"data_batch_{k + 1}")
    return (images, labels), _read_batch(folder / "test_batch")


def check(folder: Path) -> None:
    """Validate an unpacked folder.

    Raises:
        DataError: a file is missing, damaged, or is not what the official archive holds.
    """
    read(folder)


def _read_batch(path: Path) -> Examples:
    return _cifar.read_batch(path, BATCH, CLASSES, "labels", "CIFAR-10", FIX)
