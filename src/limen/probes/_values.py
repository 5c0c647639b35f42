"""Values that more than one probe records."""

from __future__ import annotations

import math

from limen.types import Point, Value


def loss_and_accuracy(point: Point, prefix: str) -> dict[str, Value]:
    """Return `<prefix>_loss`, and `<prefix>_acc` where it is defined."""
    values: dict[str, Value] = {f"{prefix}_loss": point.loss.item()}
    if not math.isnan(accuracy := point.accuracy.item()):
        values[f"{prefix}_acc"] = accuracy
    return values
