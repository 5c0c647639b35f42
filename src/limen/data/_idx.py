"""Files in the idx format of MNIST: two zero bytes, 8 for bytes, the number of dimensions, their sizes, the bytes.

Only bytes and sizes are read, and never more of them than the official files hold: nothing in a file runs.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from limen.data import Dataset, _images
from limen.data._places import require_folder
from limen.errors import DataError

SIDE, CLASSES = 28, 10
COUNTS = {"train": 60_000, "t10k": 10_000}
UNSIGNED_BYTES = 8

Examples = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def load(family: str, folder: str, n: int, data_dir: Path | str | None) -> Dataset:
    """Return the first n training images and all test images of a data set in MNIST's format, (1, 28, 28).

    Args:
        family: its name, for messages.
        folder: the name of its folder.
        n: number of training images.
        data_dir: where to look for the folder.

    Raises:
        DataError: the files are missing, damaged or of other sizes.
    """
    found = require_folder(family, folder, "with the four idx files", data_dir)
    (images, labels), (test_images, test_labels) = read(found, family)
    inputs, test_inputs = _images.centre(images, test_images, n)
    return Dataset(
        inputs.view(-1, 1, SIDE, SIDE),
        torch.from_numpy(labels[:n].copy()),
        test_inputs.view(-1, 1, SIDE, SIDE),
        torch.from_numpy(test_labels),
        CLASSES,
    )


def read(folder: Path, family: str) -> tuple[Examples, Examples]:
    """Return training and test (images (n, 784), labels (n,)) from `folder` or its subfolder `raw`.

    Raises:
        DataError: a file is missing, damaged or of other sizes.
    """
    train, test = (_read_part(folder, part, family) for part in COUNTS)
    return train, test


def _read_part(folder: Path, part: str, family: str) -> Examples:
    n, fix = COUNTS[part], f"Run `limen data fetch {family}` for a sound copy."
    images = _read_file(folder, f"{part}-images-idx3-ubyte", (n, SIDE, SIDE), fix)
    labels = _read_file(folder, f"{part}-labels-idx1-ubyte", (n,), fix)
    if labels.max() >= CLASSES:
        raise DataError(
            f"{folder}: expected labels from 0 to {CLASSES - 1} in {part}-labels-idx1-ubyte, "
            f"got {labels.max()}. {fix}"
        )
    return images.reshape(n, -1), labels.astype(np.int64)


def _read_file(folder: Path, name: str, shape: tuple[int, ...], fix: str) -> npt.NDArray[np.uint8]:
    raw = folder / "raw" if (folder / "raw").is_dir() else folder
    packed, plain = raw / f"{name}.gz", raw / name
    path = plain if plain.is_file() else packed
    expected = f"{' x '.join(map(str, shape))} bytes in idx format"
    header = bytes([0, 0, UNSIGNED_BYTES, len(shape)]) + np.array(shape, ">u4").tobytes()
    size = len(header) + int(np.prod(shape))
    try:
        with path.open("rb") if path == plain else gzip.open(path) as file:
            content = file.read(size + 1)
    except FileNotFoundError:
        raise DataError(
            f"{plain}: expected {expected}, but there is no such file, nor {packed.name}. {fix}"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected {expected}, but it cannot be read ({error}). {fix}") from None
    if not content.startswith(header):
        raise DataError(f"{path}: expected {expected}, got a file that starts {content[:16].hex()}. {fix}")
    if len(content) != size:
        got = "more" if len(content) > size else f"{len(content) - len(header)}"
        raise DataError(f"{path}: expected {expected}, got {got}. {fix}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)
