"""What the image data sets share: exact statistics, standardisation, sizes written as "5k"."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

CHUNK = 100  # images: float64 temporaries stay in the cache, sums of squares within int32


def count(n: Any) -> Any:
    """Read "5k" as 5000.

    >>> count("5k"), count(7)
    (5000, 7)
    """
    return 1000 * int(n[:-1]) if isinstance(n, str) and n[:-1].isdigit() and n.endswith("k") else n


def statistics(images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and standard deviation (ddof 0) of images/255 (n, pixels) over the n, each (pixels,).

    The sums are taken in integers, so they are exact whatever the chunks.
    """
    n, pixels = images.shape
    total, squares = np.zeros(pixels, np.int64), np.zeros(pixels, np.int64)
    for start in range(0, n, CHUNK):
        chunk = images[start : start + CHUNK].astype(np.int32)
        total += chunk.sum(0, dtype=np.int32)
        squares += np.einsum("ij,ij->j", chunk, chunk)
    variance = n * squares - total * total  # times n²
    return total / (255 * n), np.sqrt(variance) / (255 * n)


def normalise(
    images: npt.NDArray[np.uint8], mean: npt.NDArray[np.float64], std: npt.NDArray[np.float64] | np.float64
) -> Tensor:
    """Return (images/255 − mean)/std (n, pixels), taken in float64, as float32."""
    out = np.empty(images.shape, np.float32)
    for start in range(0, len(images), CHUNK):
        rows = slice(start, start + CHUNK)
        scaled = images[rows] / 255
        scaled -= mean
        scaled /= std
        out[rows] = scaled
    return torch.from_numpy(out)


def centre(
    images: npt.NDArray[np.uint8], test_images: npt.NDArray[np.uint8], n: int
) -> tuple[Tensor, Tensor]:
    """Return the first n of `images` (N, pixels) and all `test_images`, centred and scaled, float32.

    Pixels are divided by 255, the mean image of all N is subtracted, and all is divided by one number, the
    standard deviation of the N images' centred pixels. (One number a pixel would blow up the rims of images
    where hardly any has ink.)
    """
    mean, std = statistics(images)
    scale = np.sqrt(np.square(std).mean())
    return normalise(images[:n], mean, scale), normalise(test_images, mean, scale)
