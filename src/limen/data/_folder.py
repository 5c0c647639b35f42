"""An image folder as ImageNet's: train/<class>/<image> and val/<class>/<image>, read whole into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limen.data._places import places
from limen.errors import DataError
from limen.objectives.memory import free_memory

ENDINGS = {".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm"}
Part = tuple[Tensor, Tensor]


def read(folder: Path | str | None, resize: int, crop: int) -> tuple[Part, Part, int]:
    """Return training and held-out (images (n, 3, crop, crop) uint8, labels (n,)) and the number of classes.

    The shorter side of an image is scaled to `resize` pixels (8/7 of `crop` where that is not positive), and the middle
    is cut out; classes are numbered by the alphabet of the training folders. All is held in memory: that suits a
    part of ImageNet, or small images.

    Args:
        folder: holds train and val, or an `imagenet` folder that does; by default where data sets are.
        resize: pixels.
        crop: pixels.

    Raises:
        DataError: there are no such folders, an image cannot be read, or there is not enough memory.
    """
    root = _find(folder)
    names = sorted(path.name for path in (root / "train").iterdir() if path.is_dir())
    if not names:
        raise DataError(f"{root / 'train'}: expected a folder of images for each class, found none.")
    files = [_files(root / part, names) for part in ("train", "val")]
    pixels = 3 * crop * crop
    needed, free = (len(files[0]) + 5 * len(files[1])) * pixels, free_memory(torch.device("cpu"))
    if needed > 0.8 * free:
        raise DataError(
            f"{root}: {len(files[0])} + {len(files[1])} images of {crop} x {crop} pixels take {needed / 2**30:.0f} "
            f"GiB and are kept in memory, of which {free / 2**30:.0f} GiB are free. Lower crop_size, or take fewer "
            "images."
        )
    side = resize if resize > 0 else 8 * crop // 7
    train, val = (_load(part, max(side, crop), crop) for part in files)
    return train, val, len(names)


def _find(folder: Path | str | None) -> Path:
    tried = [candidate for place in places(folder) for candidate in (place, place / "imagenet")]
    for root in tried:
        if (root / "train").is_dir() and (root / "val").is_dir():
            return root
    looked = ", ".join(str(place) for place in places(folder))
    raise DataError(
        "imagenet: expected a folder with train/<class>/<image> and val/<class>/<image>, found none in "
        f"{looked}. Name it by datadir, --data_dir or $DATA_DIR; limen does not download it."
    )


def _files(root: Path, names: list[str]) -> list[tuple[Path, int]]:
    number = {name: k for k, name in enumerate(names)}
    found = []
    for part in sorted(path for path in root.iterdir() if path.is_dir()):
        if part.name not in number:
            raise DataError(f"{part}: expected a class that train has too, got {part.name!r}.")
        kept = sorted(path for path in part.iterdir() if path.suffix.lower() in ENDINGS)
        found += [(path, number[part.name]) for path in kept]
    if not found:
        raise DataError(f"{root}: expected images in a folder for each class, found none.")
    return found


def _load(files: list[tuple[Path, int]], side: int, crop: int) -> Part:
    try:
        from PIL import Image
    except ImportError:
        raise DataError("reading image files needs pillow: pip install pillow.") from None
    images = torch.empty(len(files), 3, crop, crop, dtype=torch.uint8)
    for k, (path, _) in enumerate(files):
        try:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{path}: expected an image, but it cannot be read ({error}).") from None
        width, height = image.size
        scale = side / min(width, height)
        size = max(side, round(width * scale)), max(side, round(height * scale))
        image = image.resize(size, Image.Resampling.BILINEAR)
        left, top = (size[0] - crop) // 2, (size[1] - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
        images[k] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return images, torch.tensor([label for _, label in files])
