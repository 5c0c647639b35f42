"""Minibatches of resident data, augmented and with noisy labels: a pure function of (seed, replicate, step).

Legend: n examples, b of them in a batch, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limen.digest import digest
from limen.errors import InputError
from limen.randomness import generator
from limen.streams import augment
from limen.types import Batch


class Minibatches:
    """The stream of a training run: step to `Batch`, drawn afresh and alike whenever it is asked for.

    An epoch goes through the data once. Each kind of randomness (order, crop, flip, labels, …) is a stream of its own,
    keyed by (seed, replicate, kind, step), the order by the epoch: a minibatch can be replayed at any time and no
    replicate shares numbers with another. Images stay on the device as they were given (uint8 for photographs), and
    are cropped, flipped, scaled and mixed there, a batch at a time.

    In this order: crop and flip, (x/255 − mean)/std, cutout, label or target noise, mixup, cutmix.

    Attributes:
        n: number of examples.
        steps_per_epoch: batches of an epoch.

    Args:
        images: inputs (n, …): uint8 images (n, C, H, W), or anything else, which is then left as it is.
        labels: class labels (n,), labels of words (n, T), which take neither noise nor mixing, or values (n, …).
        batch_size: b.
        classes: K, above every label; needed for noise and for mixing (default: the largest label + 1).
        seed: of the run.
        replicate: which of several runs of one seed.
        shuffle: whether each epoch has an order of its own.
        drop_last: whether an epoch leaves out the rest that fills no batch.
        mean: of each channel, in units of 1 (n, not 255); uint8 images only.
        std: of each channel, likewise.
        crop: zeros put on each side, of which a window of the image's size is cut; 0: none.
        flip: whether to mirror half of the images left to right.
        label_noise: probability that a label is replaced, each time it is drawn, by another class, all being equally
            likely; targets are then one-hot. None: labels stay as they are.
        target_noise: standard deviation of Gaussian noise added to one-hot targets at each draw. None: no noise.
        cutout: side of a square of zeros in each image, as a fraction of the smaller side (DeVries & Taylor 2017).
        mixup: α of λ ~ Beta(α, α), one a batch; max(λ, 1 − λ) of each example is kept and the rest is another's
            (Zhang et al. 2018). 0: none.
        cutmix: α likewise for the area that is kept when a box comes from another image (Yun et al. 2019). 0: none.
        device: where data and batches live (default: where the images are).
        dtype: of floating-point inputs and targets.

    Raises:
        InputError: sizes, types or probabilities do not fit.

    Examples:
        >>> images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1)
        >>> stream = Minibatches(images, torch.zeros(6, dtype=torch.int64), 3, shuffle=False)
        >>> (255 * stream(1).inputs).round().flatten().tolist(), stream.steps_per_epoch
        ([3.0, 4.0, 5.0], 2)
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        *,
        classes: int | None = None,
        seed: int = 0,
        replicate: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        crop: int = 0,
        flip: bool = False,
        label_noise: float | None = None,
        target_noise: float | None = None,
        cutout: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.n, self.batch_size, self.drop_last, self.shuffle = len(images), batch_size, drop_last, shuffle
        self.seed, self.replicate = seed, replicate
        self.padding, self.flip = crop, flip
        self.label_noise, self.target_noise = label_noise, target_noise
        self.cutout, self.mixup, self.cutmix = cutout, mixup, cutmix
        self._check(images, labels, classes)
        self.device, self.dtype = torch.device(device) if device is not None else images.device, dtype
        self.images = images.to(self.device)
        self.labels = labels.to(self.device, dtype if labels.is_floating_point() else torch.int64)
        self.classes = classes
        if self._soft and classes is None:
            self.classes = int(labels.max()) + 1
        if label_noise and (self.classes or 0) < 2:
            raise InputError(f"label noise needs at least two classes, got {self.classes}.")
        self.steps_per_epoch = self.n // batch_size if drop_last else math.ceil(self.n / batch_size)
        self._scale, self._shift = self._scaling(mean, std)
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        self._given = {"mean": list(mean) if mean else None, "std": list(std) if std else None}

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step, which counts from 0."""
        rows = self.rows(step)
        inputs, labels = self.images[rows], self.labels[rows]
        inputs = self._augmented(inputs, step)
        targets = self._noisy(labels, step)
        if self.mixup:
            inputs, targets = self._mixed(inputs, targets, step)
        if self.cutmix:
            inputs, targets = self._cut_and_mixed(inputs, targets, step)
        own = torch.randint(2**62, (), generator=self._draw("network", step))
        return Batch(inputs, targets, int(own))

    def epoch(self, step: int) -> int:
        """Return the epoch that a step belongs to, from 0."""
        return step // self.steps_per_epoch

    def rows(self, step: int) -> Tensor:
        """Return which examples a step sees (b,), in their order."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self.shuffle and self._order[0] != epoch:
            self._order = (
                epoch,
                torch.randperm(self.n, generator=self._draw("order", epoch)).to(self.device),
            )
        first, last = place * self.batch_size, min((place + 1) * self.batch_size, self.n)
        if self.shuffle:
            return self._order[1][first:last]
        return torch.arange(first, last, device=self.device)

    def describe(self) -> dict[str, Any]:
        """Return what must agree for a run to be continued (JSON-able), with a digest of the data."""
        return {
            "data": digest(self.images, self.labels)[:16],
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "replicate": self.replicate,
            "crop": self.padding,
            "flip": self.flip,
            "label_noise": self.label_noise,
            "target_noise": self.target_noise,
            "cutout": self.cutout,
            "mixup": self.mixup,
            "cutmix": self.cutmix,
            **self._given,
        }

    @property
    def _soft(self) -> bool:
        """Whether targets are rows of K numbers rather than labels."""
        noisy = self.label_noise is not None or self.target_noise is not None
        return noisy or bool(self.mixup or self.cutmix)

    def _draw(self, kind: str, step: int) -> torch.Generator:
        return generator(self.seed, f"minibatches/{self.replicate}/{kind}", step)

    def _augmented(self, x: Tensor, step: int) -> Tensor:
        if self.padding:
            corners = torch.randint(2 * self.padding + 1, (2, len(x)), generator=self._draw("crop", step))
            x = augment.crop(x, self.padding, *corners.to(self.device))
        if self.flip:
            which = torch.rand(len(x), generator=self._draw("flip", step)) < 0.5
            x = augment.flip(x, which.to(self.device))
        if x.dtype == torch.uint8:
            x = torch.addcmul(self._shift, x.to(self.dtype), self._scale)
        elif x.is_floating_point():
            x = x.to(self.dtype)
        if self.cutout:
            x = self._cut_out(x, step)
        return x

    def _cut_out(self, x: Tensor, step: int) -> Tensor:
        height, width = x.shape[2:]
        side = round(self.cutout * min(height, width))
        mask, _ = augment.box(
            height, width, (side, side), *self._centres(len(x), height, width, "cutout", step)
        )
        return x.masked_fill(mask, 0.0)

    def _noisy(self, labels: Tensor, step: int) -> Tensor:
        if not self._soft or labels.is_floating_point():
            return labels
        assert self.classes is not None
        if self.label_noise:
            draw = self._draw("labels", step)
            hit = torch.rand(len(labels), generator=draw, dtype=torch.float64) < self.label_noise
            other = torch.randint(1, self.classes, (len(labels),), generator=draw)
            labels = (labels + (hit * other).to(self.device)) % self.classes
        targets = augment.one_hot(labels, self.classes, self.dtype)
        if self.target_noise:
            noise = torch.randn(targets.shape, generator=self._draw("targets", step), dtype=self.dtype)
            targets = targets + self.target_noise * noise.to(self.device)
        return targets

    def _mixed(self, x: Tensor, y: Tensor, step: int) -> tuple[Tensor, Tensor]:
        kept, partner = self._partners(len(x), self.mixup, "mixup", step)
        return augment.mix(x, partner, kept), augment.mix(y, partner, kept)

    def _cut_and_mixed(self, x: Tensor, y: Tensor, step: int) -> tuple[Tensor, Tensor]:
        kept, partner = self._partners(len(x), self.cutmix, "cutmix", step)
        height, width = x.shape[2:]
        side = (round(height * math.sqrt(1 - kept)), round(width * math.sqrt(1 - kept)))
        mask, shares = augment.box(
            height, width, side, *self._centres(1, height, width, "cutmix/place", step)
        )
        x = torch.where(mask, x[partner], x)
        return x, augment.mix(y, partner, 1 - shares.item())

    def _centres(self, count: int, height: int, width: int, kind: str, step: int) -> tuple[Tensor, Tensor]:
        draw = self._draw(kind, step)
        rows, columns = (torch.randint(end, (count,), generator=draw) for end in (height, width))
        return rows.to(self.device), columns.to(self.device)

    def _partners(self, count: int, alpha: float, kind: str, step: int) -> tuple[float, Tensor]:
        """Return how much of each example is kept, at least half, and who gives the rest."""
        draw = self._draw(kind, step)
        partner = torch.randperm(count, generator=draw).to(self.device)
        dice = np.random.default_rng(int(torch.randint(2**62, (), generator=draw)))
        share = float(dice.beta(alpha, alpha))
        return max(share, 1 - share), partner

    def _scaling(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[Tensor, Tensor]:
        """Return a and b with (x/255 − mean)/std = a·x + b, (C, 1, 1) or 0-dim."""
        if self.images.dtype != torch.uint8:
            if mean is not None or std is not None:
                raise InputError(f"mean and std are for uint8 images, got {self.images.dtype}.")
            return torch.ones(()), torch.zeros(())
        channels = self.images.shape[1]
        given = [mean or [0.0] * channels, std or [1.0] * channels]
        if any(len(values) != channels for values in given):
            raise InputError(f"mean and std need a number a channel, {channels}, got {given}.")
        middle, spread = (torch.tensor(list(x), dtype=torch.float64)[:, None, None] for x in given)
        pair = 1 / (255 * spread), -middle / spread
        return pair[0].to(self.device, self.dtype), pair[1].to(self.device, self.dtype)

    def _check(self, images: Tensor, labels: Tensor, classes: int | None) -> None:
        if len(images) != len(labels) or len(images) == 0:
            raise InputError(f"need as many labels as images, and some: got {len(images)} and {len(labels)}.")
        if not 1 <= self.batch_size <= self.n:
            raise InputError(
                f"the batch size must be from 1 to the number of examples, {self.n}, got {self.batch_size}."
            )
        if self.label_noise is not None and not 0 <= self.label_noise <= 1:
            raise InputError(f"label_noise is a probability, from 0 to 1, got {self.label_noise}.")
        if self.label_noise is not None and self.target_noise is not None:
            raise InputError("give label_noise or target_noise, not both.")
        if self.target_noise is not None and not (
            math.isfinite(self.target_noise) and self.target_noise >= 0
        ):
            raise InputError(f"target_noise must be 0 or a positive number, got {self.target_noise}.")
        if not 0 <= self.cutout <= 1:
            raise InputError(f"cutout is a fraction, from 0 to 1, got {self.cutout}.")
        for name, alpha in (("mixup", self.mixup), ("cutmix", self.cutmix)):
            if not (math.isfinite(alpha) and alpha >= 0):
                raise InputError(f"{name} must be 0 or a positive number, got {alpha}.")
        if self.padding < 0:
            raise InputError(f"crop must be 0 or more pixels, got {self.padding}.")
        if (self.padding or self.flip or self.cutout or self.cutmix) and images.ndim != 4:
            raise InputError(
                f"crop, flip, cutout and cutmix take images (n, C, H, W), got inputs {tuple(images.shape)}."
            )
        self._check_targets(images, labels, classes)

    def _check_targets(self, images: Tensor, labels: Tensor, classes: int | None) -> None:
        noisy = self.label_noise is not None or self.target_noise is not None
        if (self.mixup or self.cutmix) and not (images.is_floating_point() or images.dtype == torch.uint8):
            raise InputError(f"mixup and cutmix take images or real inputs, got {images.dtype}.")
        if labels.is_floating_point():
            if noisy:
                raise InputError("noise is for class labels (n,), got real-valued targets.")
            return
        if self._soft and labels.ndim != 1:
            raise InputError(
                "noise and mixing are for one class label an example (n,), "
                f"got labels of shape {tuple(labels.shape)}."
            )
        low, high = (int(x) for x in labels.long().aminmax())
        if low < 0 or (classes is not None and high >= classes):
            end = "up" if classes is None else f"to {classes - 1}, as classes={classes} says"
            raise InputError(f"class labels run from 0 {end}, got {low} to {high}.")
