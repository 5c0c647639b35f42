"""Losses as sums over examples, with targets prepared once or coming with each batch.

mse = ½‖f − y‖², summed over outputs; ce = −log softmax(f)_y. An example may have several terms, such as the next
words of a sentence: its loss, and its share of the accuracy, is their mean. Means over examples are taken by
the objective. Legend: n examples, T terms of an example, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from limen.errors import InputError, nearest

PerExample = Callable[[Tensor, Tensor], Tensor]
"""A user's own loss: (outputs, targets) to one loss an example (n,)."""


@dataclass(frozen=True)
class Loss:
    """A loss on prepared targets.

    Attributes:
        name: as on the command line.
        total: (outputs, targets) to the sum of the examples' losses, 0-dim.
        correct: (outputs, targets) to the number of examples classified correctly, an example of T terms counting
            by T-ths; None where that is undefined.
        targets: the prepared targets, one row an example.
        terms: T, how many labels an example has.
    """

    name: str
    total: Callable[[Tensor, Tensor], Tensor]
    correct: Callable[[Tensor, Tensor], Tensor] | None
    targets: Tensor
    terms: int = 1


def prepare(loss: str | PerExample, targets: Tensor, outputs: tuple[int, ...], dtype: torch.dtype) -> Loss:
    """Match a loss with targets and with the shape of the network's outputs.

    Args:
        loss: "mse", "ce" or a function that returns one loss an example.
        targets: class labels (n,) or (n, T), integer, or values (n, …).
        outputs: shape of one output of the network.
        dtype: of the parameters.

    Raises:
        InputError: the loss is unknown, or does not fit targets or outputs.
    """
    labels = not targets.is_floating_point()
    if labels:
        targets = targets.long()  # the only integers that torch takes for classes
    if callable(loss):
        name = getattr(loss, "__name__", type(loss).__name__)
        prepared = targets if labels else targets.to(dtype)
        return Loss(
            name, _summed(loss, name), _matches_label if labels and len(outputs) == 1 else None, prepared
        )
    if loss not in ("mse", "ce"):
        known = ("ce", "mse")
        raise InputError(f"unknown loss {loss!r}.{nearest(loss, known)} There are: {', '.join(known)}.")
    if labels:
        _check_labels(targets, outputs)
    if loss == "ce":
        if labels:
            terms = targets[0].numel()
            total, correct = _mean_over(terms, _cross_entropy), _mean_over(terms, _matches_label)
            return Loss("ce", total, correct, targets, terms)
        _check_soft(targets, outputs)
        return Loss("ce", _soft_cross_entropy, _matches_largest, targets.to(dtype))
    if labels and targets.ndim > 1:
        raise InputError(
            f"mse takes one class label an example (n,), got labels of shape {tuple(targets.shape)}: "
            "use ce to predict the next word at each position."
        )
    if labels:
        return Loss("mse", _half_square, _matches_largest, F.one_hot(targets, outputs[0]).to(dtype))
    values = targets.to(dtype)
    if values.ndim == 1:
        values = values[:, None]  # one output: (n,) against (n, 1) would broadcast to (n, n)
    if tuple(values.shape[1:]) != outputs:
        raise InputError(
            f"the network gives outputs of shape {outputs}, the targets have shape {tuple(values.shape[1:])} "
            "an example; mse needs the two to agree."
        )
    return Loss("mse", _half_square, None, values)


def of_batches(loss: str | PerExample, classification: bool) -> BatchLoss:
    """Return a loss for targets that come with each batch, as labels (n,) or (n, T), or as rows of numbers (n, K).

    Args:
        loss: "mse", "ce" (or "soft_cross_entropy", the same) or a function that returns one loss an example.
        classification: whether rows of numbers are noisy, mixed or smoothed classes.

    Raises:
        InputError: the loss is unknown.
    """
    if callable(loss):
        name = getattr(loss, "__name__", type(loss).__name__)
        return BatchLoss(name, _summed(loss, name), classification)
    known = {"ce": _any_cross_entropy, "soft_cross_entropy": _any_cross_entropy, "mse": _any_half_square}
    if loss not in known:
        raise InputError(f"unknown loss {loss!r}.{nearest(loss, known)} There are: {', '.join(known)}.")
    return BatchLoss(loss, known[loss], classification)


@dataclass(frozen=True)
class BatchLoss:
    """A loss whose targets come with each batch.

    Attributes:
        name: as given.
        total: (outputs, targets) to the sum of the examples' losses, 0-dim.
        classification: whether targets are classes, if rows of numbers then noisy or mixed ones.
    """

    name: str
    total: Callable[[Tensor, Tensor], Tensor]
    classification: bool

    def hits(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how many examples are classified correctly, 0-dim float64; nan where that is undefined."""
        if not self.classification:
            return torch.full((), torch.nan, dtype=torch.float64, device=outputs.device)
        if targets.is_floating_point():
            return _matches_largest(outputs, targets).double()
        return _matches_label(outputs, targets).double() / max(1, targets[0].numel())


def smoothed(targets: Tensor, smoothing: float, classes: int, dtype: torch.dtype) -> Tensor:
    """Return (1 − s)·y + s/K, for labels (n,) or rows (n, K) (Szegedy et al. 2016, §7)."""
    if not targets.is_floating_point():
        targets = F.one_hot(targets, classes).to(dtype)
    return (1 - smoothing) * targets + smoothing / classes


def _any_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    _check_batch(outputs, targets)
    if targets.is_floating_point():
        return _soft_cross_entropy(outputs, targets)
    return _cross_entropy(outputs, targets) / targets[0].numel()


def _any_half_square(outputs: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point() and targets.ndim == 1:
        targets = targets[:, None]  # one output: (n,) against (n, 1) would broadcast to (n, n)
    _check_batch(outputs, targets)
    if not targets.is_floating_point():
        targets = F.one_hot(targets, outputs.shape[1]).to(outputs.dtype)
    return _half_square(outputs, targets)


def _check_batch(outputs: Tensor, targets: Tensor) -> None:
    """Refuse targets that do not fit the outputs; labels out of range only where looking does not stop a device."""
    expected = outputs.shape if targets.is_floating_point() else outputs.shape[:-1]
    if targets.shape != expected:
        raise InputError(
            f"targets of a batch have shape {tuple(targets.shape)}, but outputs {tuple(outputs.shape)}: expected "
            f"labels {tuple(outputs.shape[:-1])} or values {tuple(outputs.shape)}."
        )
    if targets.device.type == "cpu" and not targets.is_floating_point():
        low, high = (int(x) for x in targets.aminmax())
        if low < 0 or high >= outputs.shape[-1]:
            raise InputError(
                f"class labels run from {low} to {high}, but the network has {outputs.shape[-1]} outputs."
            )


def _check_labels(targets: Tensor, outputs: tuple[int, ...]) -> None:
    if targets.ndim not in (1, 2) or not outputs or tuple(targets.shape[1:]) != outputs[:-1]:
        raise InputError(
            "class labels have shape (n,) and go with outputs of shape (classes,), or (n, T) and (T, classes); "
            f"got labels {tuple(targets.shape)} and outputs {outputs}."
        )
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= outputs[-1]:
        raise InputError(f"class labels run from {low} to {high}, but the network has {outputs[-1]} outputs.")


def _check_soft(targets: Tensor, outputs: tuple[int, ...]) -> None:
    fits = targets.ndim == 2 and tuple(targets.shape[1:]) == outputs and outputs[0] > 1
    if (
        not fits
        or bool((targets < 0).any())
        or not torch.allclose(targets.sum(1), targets.new_ones(()), atol=1e-4)
    ):
        raise InputError(
            "loss ce needs class labels (n,) or class probabilities (n, classes), "
            f"got real-valued targets of shape {tuple(targets.shape)}; use mse for a regression."
        )


def _summed(loss: PerExample, name: str) -> Callable[[Tensor, Tensor], Tensor]:
    def total(outputs: Tensor, targets: Tensor) -> Tensor:
        losses = loss(outputs, targets)
        if losses.shape != outputs.shape[:1]:
            raise InputError(
                f"loss {name!r} must return one loss an example, shape {tuple(outputs.shape[:1])}, "
                f"got shape {tuple(losses.shape)}."
            )
        return losses.sum()

    return total


def _mean_over(terms: int, summed: PerExample) -> PerExample:
    """Return `summed` over all terms as a sum over examples of the mean over their terms."""
    return summed if terms == 1 else lambda outputs, targets: summed(outputs, targets) / terms


def _half_square(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * F.mse_loss(outputs, targets, reduction="sum")  # one kernel each way


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="sum")


def _soft_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return -(targets * F.log_softmax(outputs, dim=1)).sum()


def _matches_label(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(-1) == targets).sum()


def _matches_largest(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets.argmax(1)).sum()
