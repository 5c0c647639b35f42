"""CIFAR-100, 32×32 colour images in a hundred classes, whole or the first <k> thousand: cifar100[-<k>k]."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from annotated_types import Interval
from pydantic import BeforeValidator

from limen.data import Dataset, _cifar, _images
from limen.data._cifar import Examples
from limen.data._places import require_folder

PATTERN = r"cifar100(?:-(?P<n>(?:[1-9]|[1-4]\d|50)k))?"
NAMES = ("cifar100-5k", "cifar100")
SOURCE = {
    "url": "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "checksum": "md5:eb9058c3a382ffc7106e4002c42a8d85",
    "folder": "cifar-100-python",
}

TRAIN, TEST, CLASSES = 50_000, 10_000, 100
FIX = "Run `limen data fetch cifar100` for a sound copy."


def make(
    *,
    data_dir: Path | str | None = None,
    n: Annotated[int, BeforeValidator(_images.count), Interval(ge=1, le=50_000)] = 50_000,
) -> Dataset:
    """Return the first n training images and all 10 000 test images, (3, 32, 32) float32, with the fine labels.

    Each pixel is standardised over all 50 000 training images, as in `cifar10`.
    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009 (the "python version").

    Args:
        data_dir: the folder that holds `cifar-100-python`, or is it; by default $DATASETS, $DATA_DIR, the
            cache.
        n: number of training images, also as "5k".

    Raises:
        DataError: the files are missing or are not CIFAR-100.
    """
    folder = require_folder("cifar100", SOURCE["folder"], "(the official 'python version')", data_dir)
    return _cifar.standardised(*read(folder), n, CLASSES)


def read(folder: Path) -> tuple[Examples, Examples]:
    """Return training and test (images (n, 3072) uint8, labels (n,)) of `folder`, after validation.

    Raises:
        DataError: a file is missing, damaged, or is not what the official archive holds.
    """
    train, test = (
        _cifar.read_batch(folder / name, count, CLASSES, "fine_labels", "CIFAR-100", FIX)
        for name, count in (("train", TRAIN), ("test", TEST))
    )
    return train, test


def check(folder: Path) -> None:
    """Validate an unpacked folder.

    Raises:
        DataError: a file is missing, damaged, or is not what the official archive holds.
    """
    read(folder)
