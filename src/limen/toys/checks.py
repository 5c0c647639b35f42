"""Refusals that the systems share, each with its bound."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from limen.errors import InputError

DTYPES = {"float64": torch.float64, "float32": torch.float32}


def precision(dtype: str) -> torch.dtype:
    """Return the torch dtype of that name."""
    if dtype not in DTYPES:
        raise InputError(f"dtype: expected float64 or float32, got {dtype!r}.")
    return DTYPES[dtype]


def noise(name: str, values: Sequence[float]) -> None:
    """Refuse noise that is negative or not finite, and a sweep over none."""
    if not values:
        raise InputError(f"{name}: expected at least one value, got none.")
    for value in values:
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name}: noise must be finite and at least 0, got {value}.")


def positive(name: str, value: float) -> None:
    """Refuse what is not a positive finite number."""
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} must be a positive number, got {value}.")


def at_least(name: str, value: int, least: int) -> None:
    """Refuse a count below `least`."""
    if value < least:
        raise InputError(f"{name} must be at least {least}, got {value}.")


def time_step(name: str, value: float, bound: float, why: str) -> None:
    """Refuse a step that is not positive, or beyond the bound of stability."""
    positive(name, value)
    if value >= bound:
        raise InputError(f"{name} = {value:g} is beyond stability: it must be below {bound:.4g}, {why}.")


def counts(name: str, values: Sequence[int]) -> None:
    """Refuse a negative number of steps, and a list of none."""
    if not values:
        raise InputError(f"{name}: expected at least one value, got none.")
    for value in values:
        at_least(name, value, 0)
