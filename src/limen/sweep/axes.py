"""The values of an axis: a list, or a rule for one, written as words or in YAML; a rule takes no memory."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from limen.errors import InputError, nearest

WHOLE = re.compile(r"(-?\d+)\.\.(-?\d+)")
SPACED = re.compile(r"(linear|log):(.*)")
RULES = ("linear", "log", "range")

Values = Sequence[Any]


@dataclass(frozen=True)
class Spaced(Sequence[float]):
    """Numbers from `first` to `last`, both included, rounded to 12 digits in between.

    Attributes:
        first: x₀.
        last: x₁.
        number: n.
        kind: linear, x₀ + (x₁ − x₀) i / (n − 1), or log, x₀ (x₁ / x₀)^(i / (n − 1)).
    """

    first: float
    last: float
    number: int
    kind: Literal["linear", "log"]

    def __len__(self) -> int:
        return self.number

    @overload
    def __getitem__(self, index: int) -> float: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[float]: ...

    def __getitem__(self, index: int | slice) -> float | Sequence[float]:
        match index:
            case slice():
                return [self._at(i) for i in range(*index.indices(self.number))]
            case _:
                return self._at(range(self.number)[index])

    def _at(self, i: int) -> float:
        if i == 0:
            return self.first
        if i == self.number - 1:
            return self.last
        part = i / (self.number - 1)
        if self.kind == "log":
            x = self.first * (self.last / self.first) ** part
        else:
            x = self.first + (self.last - self.first) * part
        return float(f"{x:.12g}")


def of_word(name: str, text: str) -> Values:
    """Return the values that `name=text` names.

    >>> list(of_word("lr", "0.05,0.1"))
    ['0.05', '0.1']
    >>> list(of_word("seed", "0..3"))
    [0, 1, 2, 3]
    >>> list(of_word("lr", "log:0.01:1:3"))
    [0.01, 0.1, 1.0]

    Raises:
        InputError: there is none, or a rule is malformed.
    """
    if found := WHOLE.fullmatch(text):
        first, last = int(found[1]), int(found[2])
        return whole(name, range(first, last + 1), text)
    if found := SPACED.fullmatch(text):
        return _spaced(name, found[1], found[2].split(":"), text)
    parts = text.split(",")
    if not all(parts):
        raise InputError(
            f"{name}: expected values such as 0.1,0.2 or 0..7 or log:1e-3:1:7, got {text!r}. "
            "Leave no place between commas empty."
        )
    return parts


def of_yaml(name: str, value: Any) -> Values:
    """Return the values that YAML gives for an axis: a list, a rule such as {log: [1e-3, 1, 7]}, or words.

    Raises:
        InputError: there is none, or a rule is malformed.
    """
    match value:
        case str():
            return of_word(name, value)
        case Mapping():
            return _rule(name, dict(value))
        case list():
            return _some(name, value, "an empty list")
        case None:
            raise InputError(
                f"{name}: expected at least one value, got none. Name some, or leave {name} out."
            )
    return [value]


def _rule(name: str, rule: dict[str, Any]) -> Values:
    expected = (
        f"{name}: expected a list, or one of {{linear: [a, b, n]}}, {{log: [a, b, n]}}, {{range: [a, b]}}"
    )
    if len(rule) != 1:
        raise InputError(f"{expected}, got the keys {', '.join(map(str, rule)) or 'none'}.")
    ((kind, words),) = rule.items()
    if kind not in RULES:
        raise InputError(f"{expected}, got {kind!r}.{nearest(str(kind), RULES)}")
    if not isinstance(words, list):
        raise InputError(f"{expected}, got {words!r} for {kind}.")
    if kind != "range":
        return _spaced(name, kind, words, f"{{{kind}: {words}}}")
    try:
        ends = [int(str(word)) for word in words]
        numbers = range(*ends)
    except (ValueError, TypeError):
        raise InputError(
            f"{name}: expected {{range: [first, end]}} in whole numbers, end not included, got {words!r}."
        ) from None
    return whole(name, numbers, f"{{range: {words}}}")


def _spaced(name: str, kind: Any, words: Sequence[Any], text: str) -> Spaced:
    try:
        first, last, count = float(words[0]), float(words[1]), int(str(words[2]))
        if len(words) != 3:
            raise ValueError
    except (ValueError, TypeError, IndexError):
        raise InputError(
            f"{name}: expected {kind} with a first value, a last one and how many, as in {kind}:0.01:1:5, "
            f"got {text!r}."
        ) from None
    if count < 2 or not first < last < float("inf") or not first > float("-inf"):
        raise InputError(
            f"{name}: expected {kind} from a smaller to a larger number, at least 2 values, got {text!r}."
        )
    if count > sys.maxsize:
        raise _too_many(name, count, text)
    if kind == "log" and first <= 0:
        raise InputError(f"{name}: expected positive ends for log, got {text!r}. Use linear.")
    return Spaced(first, last, count, kind)


def whole(name: str, numbers: range, text: str) -> range:
    """Return `numbers`, written as `text`, if there are some and not more than can be counted."""
    if numbers and (count := (numbers[-1] - numbers[0]) // numbers.step + 1) > sys.maxsize:
        raise _too_many(name, count, text)
    _some(name, numbers, text)
    return numbers


def _too_many(name: str, count: int, text: str) -> InputError:
    return InputError(f"{name}: {text} are {count} values, more than can be run. Take fewer.")


def _some(name: str, values: Values, text: str) -> Values:
    if not len(values):
        raise InputError(f"{name}: expected at least one value, got {text}. Name some, or leave {name} out.")
    return values
