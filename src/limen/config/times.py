"""Lengths of time in training configurations: `1000ba` batches, `3ep` epochs, `0.5dur` of the whole run."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from limen.registry.values import Mismatch, Rule, read, shown

PATTERN = re.compile(r"(?P<count>[0-9]+)(?P<unit>ba|ep)|(?P<share>[0-9]*\.?[0-9]+)dur")
EXPECTED = "a time such as 1000ba (batches), 3ep (epochs) or 0.5dur (of the run)"
TIME = Annotated[str, Rule(EXPECTED, PATTERN.fullmatch)]
ABSOLUTE = Annotated[
    str,
    Rule(
        "a time such as 1000ba (batches) or 3ep (epochs), at least 1",
        re.compile(r"0*[1-9][0-9]*(ba|ep)").fullmatch,
    ),
]
NEAR = 1e-9
"""Relative: a product this close below a whole number is that number, 100 x .29 being 28.999999999999996."""


def in_steps(text: str, per_epoch: int, total: int = 0) -> int:
    """Return how many batches a time is.

    Args:
        text: as `PATTERN` has it.
        per_epoch: batches of an epoch.
        total: batches of the run, for `dur`.

    >>> in_steps("3ep", per_epoch=10), in_steps("0.5dur", per_epoch=10, total=70)
    (30, 35)
    """
    match = PATTERN.fullmatch(text)
    assert match is not None, text  # the spec has been checked
    if match["share"] is not None:
        return _whole(float(match["share"]) * total)
    return int(match["count"]) * (per_epoch if match["unit"] == "ep" else 1)


def scaled(text: str, ratio: float) -> str:
    """Return a time multiplied by `ratio`; a share of the run scales with the run.

    >>> scaled("1000ba", 0.5), scaled("100ba", 0.29), scaled("0.5dur", 0.5)
    ('500ba', '29ba', '0.5dur')
    """
    match = PATTERN.fullmatch(text)
    assert match is not None, text
    return text if match["count"] is None else f"{_whole(int(match['count']) * ratio)}{match['unit']}"


def usual(text: str) -> str:
    """Return a time as it is usually written, so that equal ones are spelled alike.

    >>> usual("060ba"), usual(".50dur"), usual("1.0dur")
    ('60ba', '0.5dur', '1dur')
    """
    match = PATTERN.fullmatch(text)
    assert match is not None, text
    if match["share"] is not None:
        return f"{Decimal(match['share']).normalize():f}dur"
    return f"{int(match['count'])}{match['unit']}"


def read_time(value: Any) -> str:
    """Read a time, a share of the run among them, and return it as it is usually written.

    Raises:
        Mismatch: it is something else.
    """
    return usual(read(TIME, value))


def read_absolute(value: Any) -> str:
    """Read a positive number of batches or epochs, and return it as it is usually written.

    Raises:
        Mismatch: it is something else.
    """
    return usual(read(ABSOLUTE, value))


def read_list(value: Any) -> list[str]:
    """Read a list of times; one alone, or several in a word joined by commas, will do.

    Raises:
        Mismatch: it is something else.
    """
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(
        isinstance(part, str) and PATTERN.fullmatch(part) for part in parts
    ):
        raise Mismatch(f"expected a list of times such as [1000ba, 3ep], got {shown(value)}.")
    return [usual(part) for part in parts]


def _whole(product: float) -> int:
    """Return the whole number below, or the one that rounding kept the product from."""
    return int(product + NEAR * max(1.0, product))
