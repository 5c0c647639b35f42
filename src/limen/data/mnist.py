"""Handwritten digits, 28×28 pixels, ten classes, 60 000 and 10 000 images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from limen.data import Dataset, _idx

# Checksums as torchvision states them; not compared with a download of ours.
SOURCE: Mapping[str, Any] = {
    "url": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "folder": "MNIST",
    "files": {
        "raw/train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "raw/train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
        "raw/t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
        "raw/t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    },
}


def make(
    *, data_dir: Path | str | None = None, n: Annotated[int, Interval(ge=1, le=60_000)] = 60_000
) -> Dataset:
    """Return the first n training images and all 10 000 test images, (1, 28, 28) float32.

    Pixels are divided by 255, the mean image of all 60 000 training images is subtracted, and all is divided
    by one number, the standard deviation of their centred pixels.
    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-Based Learning Applied to Document Recognition, 1998.

    Args:
        data_dir: the folder that holds `MNIST` (with the four files, packed or not, or a subfolder `raw`
            of them), or is it; by default $DATASETS, $DATA_DIR, the cache.
        n: take the first n training images.

    Raises:
        DataError: the files are missing or are not MNIST.
    """
    return _idx.load("mnist", SOURCE["folder"], n, data_dir)


def check(folder: Path) -> None:
    """Validate a folder.

    Raises:
        DataError: a file is missing, damaged or of another size.
    """
    _idx.read(folder, "mnist")
