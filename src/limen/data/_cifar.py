"""What the two CIFAR sets share: pickled batches of 32×32 images, and the standardisation of each pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from limen.data import Dataset, _arrays, _images
from limen.errors import DataError

PIXELS = 3072
Examples = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def read_batch(path: Path, count: int, classes: int, key: str, family: str, fix: str) -> Examples:
    """Return images (count, 3072) uint8 and labels (count,) of one pickled file, after validation.

    Args:
        path: the file.
        count: how many images it has to hold.
        classes: labels run from 0 to classes − 1.
        key: under which name it holds them.
        family: for messages, as "CIFAR-10".
        fix: how to get a sound file, for messages.

    Raises:
        DataError: the file is missing, damaged, or is not what the official archive holds.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a batch of {family} images, but there is no such file. {fix}")
    expected = f"a batch of {count} {family} images ({PIXELS} bytes each) with labels 0 to {classes - 1}"
    content = _arrays.load(path, expected, fix)

    def refuse(got: str) -> DataError:
        return DataError(f"{path}: expected {expected}, got {got}. {fix}")

    if missing := [name for name in ("data", key) if name not in content]:
        raise refuse(f"no {' and no '.join(missing)}")
    images, labels = _arrays.as_bytes(content["data"]), content[key]
    if images is None:
        raise refuse("data that is not a sound uint8 array")
    if images.shape != (count, PIXELS):
        raise refuse(f"an array of shape {images.shape}")
    if type(labels) is not list or len(labels) != count:
        raise refuse(
            f"{len(labels)} labels" if type(labels) is list else f"labels in a {type(labels).__name__}"
        )
    if not all(type(label) is int and 0 <= label < classes for label in labels):
        raise refuse("a label outside that range")
    return images, np.array(labels, np.int64)


def standardised(train: Examples, test: Examples, n: int, classes: int) -> Dataset:
    """Return the first n of `train` and all of `test`, each pixel standardised over all of `train`."""
    (images, labels), (test_images, test_labels) = train, test
    mean, std = _images.statistics(images)
    std = np.where(std > 0, std, 1.0)
    return Dataset(
        _images.normalise(images[:n], mean, std).view(-1, 3, 32, 32),
        torch.from_numpy(labels[:n].copy()),
        _images.normalise(test_images, mean, std).view(-1, 3, 32, 32),
        torch.from_numpy(test_labels),
        classes,
    )
