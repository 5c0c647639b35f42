"""The image sets of the published training configurations: which files, which scale, crop, flip and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from limen.data import _folder, cifar10, cifar100
from limen.data._cifar import Examples
from limen.data._image_set import ImageSet, check_fields
from limen.data._places import require_folder


@dataclass(frozen=True)
class Cifar:
    """One of the two CIFAR sets.

    Attributes:
        name: its family.
        classes: how many.
        mean: of each channel over the training images, in units of 1.
        std: likewise.
    """

    name: Literal["cifar10", "cifar100"]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def read(self, folder: Path | str | None) -> tuple[Examples, Examples]:
        """Return training and test images and labels."""
        module = cifar10 if self.name == "cifar10" else cifar100
        where = module.SOURCE["folder"]
        found: tuple[Examples, Examples] = module.read(
            require_folder(self.name, where, "(the official 'python version')", folder)
        )
        return found


TEN = Cifar("cifar10", 10, (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261))
HUNDRED = Cifar("cifar100", 100, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PADDING = 4

SETS: Mapping[str, tuple[Cifar, bool, Literal["none", "label", "target"]]] = {
    "cifar10": (TEN, True, "none"),
    "cifar100": (HUNDRED, True, "none"),
    "cifar10labelnoise": (TEN, True, "label"),
    "cifar100labelnoise": (HUNDRED, True, "label"),
    "cifar10noisy": (TEN, True, "target"),
    "cifar10noiseless": (TEN, False, "none"),
}
"""By name: the files, whether training crops and flips, and what sigma means."""


def images(name: str, fields: Mapping[str, Any], folder: Path | str | None) -> ImageSet | None:
    """Return the published set `name`, or None if it is none of those.

    Raises:
        InputError: it does not have such a field.
        DataError: files are missing or damaged.
    """
    if name == "imagenet":
        check_fields(name, fields, ("resize_size", "crop_size"))
        return _imagenet(folder, fields.get("resize_size", -1), fields.get("crop_size", 224))
    if name not in SETS:
        return None
    cifar, augmented, noise = SETS[name]
    check_fields(name, fields, () if noise == "none" else ("sigma",))
    (train, labels), (test, test_labels) = cifar.read(folder)
    return ImageSet(
        _as_images(train),
        torch.from_numpy(labels),
        scaled(_as_images(test), cifar.mean, cifar.std),
        torch.from_numpy(test_labels),
        cifar.classes,
        cifar.classes,
        cifar.mean,
        cifar.std,
        PADDING if augmented else 0,
        augmented,
        noise,
        hard=noise == "none",
    )


def scaled(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return (x/255 − mean)/std of uint8 images (n, C, H, W) as float32."""
    middle, spread = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (mean, std))
    out = images.float()  # in place from here: 5 bytes a number with the images, as `_folder` counts
    return torch.addcmul((-middle / spread).float(), out, (1 / (255 * spread)).float(), out=out)


def _as_images(rows: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    return torch.from_numpy(rows.copy() if not rows.flags.writeable else rows).view(-1, 3, 32, 32)


def _imagenet(folder: Path | str | None, resize: int, crop: int) -> ImageSet:
    (train, labels), (test, test_labels), classes = _folder.read(folder, resize, crop)
    mean, std = IMAGENET
    return ImageSet(
        train, labels, scaled(test, mean, std), test_labels, classes, classes, mean, std, crop // 8, True
    )
