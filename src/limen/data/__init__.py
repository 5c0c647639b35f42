"""Data sets: one file a family, each exporting `make(*, …) -> Dataset` (see CONTRIBUTING.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from limen import registry
from limen.data._image_set import ImageSet as ImageSet
from limen.digest import digest
from limen.errors import InputError


@dataclass(frozen=True)
class Dataset:
    """Resident training and test data.

    Attributes:
        inputs: training inputs (n, …), floating point; word numbers (n, T) int64 for texts.
        targets: class labels (n,) int64 for classification, next words (n, T) int64 for texts, values
            (n, outputs) for regression.
        test_inputs: held-out inputs; the training inputs again where a data set has no test set.
        test_targets: their targets.
        classes: number of classes, or of words in the vocabulary; None for a regression.
    """

    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    classes: int | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.inputs.shape[1:])

    @property
    def outputs(self) -> int:
        """How many outputs a network on this data set has, for each of its targets."""
        return self.classes if self.classes is not None else int(self.targets[0].numel())

    def digest(self) -> str:
        """Return a SHA-256 over shapes, types and bytes, stored with a run and compared on resume."""
        return digest(self.inputs, self.targets, self.test_inputs, self.test_targets)


def load(
    name: str, arguments: Mapping[str, Any] | None = None, data_dir: Path | str | None = None
) -> Dataset:
    """Return the data set `name`: an id of ours, or a user's `module:function`.

    A user's function returns a `Dataset`, `(inputs, targets)` or `((inputs, targets), (test_inputs, test_targets))`.

    Raises:
        InputError: the name, an argument or what a user's function returned does not fit.
        DataError: files are missing or damaged.
    """
    made = registry.make("data", name, arguments or {}, {"data_dir": data_dir})
    return made if isinstance(made, Dataset) else from_tensors(made, name)


def images(name: str, fields: Mapping[str, Any], folder: Path | str | None = None) -> ImageSet:
    """Return a data set for training by minibatches: a published image set as bytes, or any other as `load` gives it.

    Args:
        name: one of the published sets (cifar10, cifar100, cifar10labelnoise, cifar100labelnoise, cifar10noisy,
            cifar10noiseless, imagenet), or a name that `load` takes.
        fields: `sigma` where there is noise; of other sets the label noise `sigma` and the arguments of `load`.
        folder: where to look for files, by default $DATASETS, $DATA_DIR and the user's cache.

    Raises:
        InputError: the name or a field does not fit.
        DataError: files are missing or damaged.
    """
    from limen.data import _published  # which imports families, and they this module

    if (found := _published.images(name, fields, folder)) is not None:
        return found
    made = load(name, {key: value for key, value in fields.items() if key != "sigma"}, folder)
    noise: Literal["none", "label"] = "none" if made.classes is None else "label"
    return ImageSet(
        made.inputs,
        made.targets,
        made.test_inputs,
        made.test_targets,
        made.classes,
        made.outputs,
        noise=noise,
    )


def from_tensors(made: Any, name: str = "data") -> Dataset:
    """Build a `Dataset` from `(X, y)` or `((X, y), (X_test, y_test))`, tensors or arrays.

    Integer targets of shape (n,) are class labels; of shape (n, T) they are labels at T places, such as the
    next words of a text, whose vocabulary is then that of the inputs too, if they are integers. Without a test
    set the training set stands in.

    Raises:
        InputError: that is not what was given, lengths differ, or labels are negative.
    """
    try:
        first, second = made
        pairs = (first, second) if isinstance(first, (tuple, list)) else (made, made)
        (inputs, targets), (test_inputs, test_targets) = pairs
        parts = [torch.as_tensor(x) for x in (inputs, targets, test_inputs, test_targets)]
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"data set {name!r}: expected a Dataset, (inputs, targets) or "
            f"((inputs, targets), (test_inputs, test_targets)), got {type(made).__name__} ({error})."
        ) from None
    inputs, targets, test_inputs, test_targets = parts
    for x, y in ((inputs, targets), (test_inputs, test_targets)):
        if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) == 0:
            shapes = f"{tuple(x.shape)} and {tuple(y.shape)}"
            raise InputError(
                f"data set {name!r}: need as many targets as inputs, and some; got shapes {shapes}."
            )
    if targets.is_floating_point() or targets.ndim > 2:
        return Dataset(inputs, targets, test_inputs, test_targets)
    targets, test_targets = targets.long(), test_targets.long()
    words = [inputs, test_inputs] if targets.ndim == 2 and not inputs.is_floating_point() else []
    labels = torch.cat([x.flatten() for x in (targets, test_targets, *words)])
    if int(labels.min()) < 0:
        raise InputError(f"data set {name!r}: class labels must be 0 or more, got {int(labels.min())}.")
    return Dataset(inputs, targets, test_inputs, test_targets, int(labels.max()) + 1)


def fetch(name: str, data_dir: Path | str | None = None) -> Path:
    """Download the files of a data set unless they are here, check them, and return their folder."""
    from limen.data import _fetch  # the downloader is wanted here alone

    return _fetch.fetch(name, data_dir)
