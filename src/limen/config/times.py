"""Lengths of time in training configurations: `1000ba` batches, `3ep` epochs, `0.5dur` of the whole run."""

from __future__ import annotations

import re
from typing import Annotated, Any

from limen.registry.values import Mismatch, Rule, shown

PATTERN = re.compile(r"(?P<count>\d+)(?P<unit>ba|ep)|(?P<share>\d*\.?\d+)dur")
EXPECTED = "a time such as 1000ba (batches), 3ep (epochs) or 0.5dur (of the run)"
TIME = Annotated[str, Rule(EXPECTED, PATTERN.fullmatch)]
ABSOLUTE = Annotated[
    str, Rule("a time such as 1000ba (batches) or 3ep (epochs)", re.compile(r"\d+(ba|ep)").fullmatch)
]


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
        return int(float(match["share"]) * total)
    return int(match["count"]) * (per_epoch if match["unit"] == "ep" else 1)


def scaled(text: str, ratio: float) -> str:
    """Return a time multiplied by `ratio`; a share of the run scales with the run.

    >>> scaled("1000ba", 0.5), scaled("0.5dur", 0.5)
    ('500ba', '0.5dur')
    """
    match = PATTERN.fullmatch(text)
    assert match is not None, text
    return text if match["count"] is None else f"{int(int(match['count']) * ratio)}{match['unit']}"


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
    return list(parts)
