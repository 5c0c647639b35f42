"""Augmentation of a whole batch at once, given what was drawn.

Shapes: b images of C channels and H × W pixels, (b, C, H, W); K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def crop(images: Tensor, padding: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Return an H × W window of each image after `padding` zeros on every side.

    Args:
        images: (b, C, H, W), any type.
        padding: pixels.
        rows: (b,), where each window begins, 0 to 2·padding.
        columns: (b,), likewise.
    """
    height, width = images.shape[2:]
    padded = F.pad(images, (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (b, C, 2p + 1, 2p + 1, H, W)
    return windows[torch.arange(len(images), device=images.device), :, rows, columns]


def flip(images: Tensor, which: Tensor) -> Tensor:
    """Return the images with those of `which` (b,) mirrored left to right."""
    return torch.where(which[:, None, None, None], images.flip(3), images)


def box(
    height: int, width: int, side: tuple[int, int], rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor]:
    """Return which pixels lie in a box `side` centred at (rows, columns), clipped at the rim, and what they share.

    Args:
        height: H.
        width: W.
        side: of the box, (height, width), in pixels.
        rows: (k,), the centres.
        columns: (k,), likewise.

    Returns:
        A mask (k, 1, H, W) and the boxes' shares of the area (k,), float64.
    """

    def span(centre: Tensor, length: int, end: int) -> Tensor:
        at, first = torch.arange(end, device=centre.device), (centre - length // 2)[:, None]
        return (at >= first) & (at < first + length)

    tall, wide = span(rows, side[0], height), span(columns, side[1], width)
    shares = tall.sum(1).double() * wide.sum(1) / (height * width)
    return (tall[:, None, :, None] & wide[:, None, None, :]), shares


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Return labels (b,) as rows of zeros and a one (b, K)."""
    out = torch.zeros(len(labels), classes, dtype=dtype, device=labels.device)
    return out.scatter_(1, labels[:, None], 1.0)


def mix(x: Tensor, partner: Tensor, share: float) -> Tensor:
    """Return share·x + (1 − share)·x[partner]."""
    return torch.lerp(x[partner], x, share)
