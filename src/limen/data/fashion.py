"""Fashion-MNIST, articles of clothing, 28×28 pixels, ten classes, 60 000 and 10 000 images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from limen.data import Dataset, _idx

# Checksums as its authors and torchvision state them; not compared with a download of ours.
SOURCE: Mapping[str, Any] = {
    "url": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "folder": "FashionMNIST",
    "files": {
        "raw/train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "raw/train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
        "raw/t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
        "raw/t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
    },
}


def make(
    *, data_dir: Path | str | None = None, n: Annotated[int, Interval(ge=1, le=60_000)] = 60_000
) -> Dataset:
    """Return the first n training images and all 10 000 test images, (1, 28, 28) float32.

    Pixels are divided by 255, the mean image of all 60 000 training images is subtracted, and all is divided
    by one number, the standard deviation of their centred pixels.
    Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a Novel Image Dataset, 2017.

    Args:
        data_dir: the folder that holds `FashionMNIST` (with the four files, packed or not, or a subfolder `raw`
            of them), or is it; by default $DATASETS, $DATA_DIR, the cache.
        n: take the first n training images.

    Raises:
        DataError: the files are missing or are not Fashion-MNIST.
    """
    return _idx.load("fashion", SOURCE["folder"], n, data_dir)


def check(folder: Path) -> None:
    """Validate a folder.

    Raises:
        DataError: a file is missing, damaged or of another size.
    """
    _idx.read(folder, "fashion")
