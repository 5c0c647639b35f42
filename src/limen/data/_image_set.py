"""A data set as training by minibatches takes it: resident, not yet augmented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from limen.errors import InputError, nearest


@dataclass(frozen=True)
class ImageSet:
    """Training data before augmentation, and held-out data ready for the network.

    Attributes:
        images: inputs (n, …): uint8 images (n, C, H, W), or anything else as it goes into the network.
        labels: class labels (n,), or values.
        test_images: held-out inputs as they go into the network.
        test_labels: their labels.
        classes: number of classes; None for a regression.
        outputs: how many outputs a network has.
        mean: of each channel, in units of 1; None where the images are not uint8.
        std: likewise.
        crop: pixels of padding of which a window is cut in training; 0: none.
        flip: whether training mirrors half of the images.
        noise: what `sigma` means in training: "label", the probability of another label; "target", the standard
            deviation of what is added to one-hot targets; "none", there is no `sigma`.
        hard: whether labels stay labels where sigma is 0, rather than one-hot targets.
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int | None
    outputs: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop: int = 0
    flip: bool = False
    noise: Literal["none", "label", "target"] = "none"
    hard: bool = True

    def stream(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return keyword arguments for `Minibatches`.

        Args:
            fields: those of the set in a configuration; `sigma` is read.

        Raises:
            InputError: sigma is not what it can be here.
        """
        sigma = float(fields.get("sigma") or 0.0)
        given: dict[str, Any] = {
            "classes": self.classes,
            "mean": self.mean,
            "std": self.std,
            "crop": self.crop,
            "flip": self.flip,
        }
        match self.noise:
            case "label":
                given["label_noise"] = None if self.hard and not sigma else sigma
            case "target":
                given["target_noise"] = sigma
            case "none" if sigma:
                raise InputError(f"sigma: this data set has no noise, got {sigma}.")
        return given


def check_fields(name: str, fields: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse a field that a set does not have."""
    for field in fields:
        if field not in known:
            raise InputError(
                f"data set {name!r} takes no field {field!r}.{nearest(field, known)} "
                f"It takes: {', '.join(known) or 'none'}."
            )
