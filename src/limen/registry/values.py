"""Untyped values (words of a command line, YAML) read as the types that annotations name.

Whole numbers, numbers, switches, text, choices and mappings, with bounds, are read here; any other annotation
is left to pydantic, which is imported then only.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import DocInfo, Ge, GroupedMetadata, Gt, Le, Lt


class Mismatch(ValueError):
    """A value is not of its type; the message says what was expected and what was got."""


@dataclass(frozen=True)
class Rule:
    """A condition on a value, in an annotation.

    Attributes:
        expected: what holds, in words that follow "expected".
        holds: whether it does.
    """

    expected: str
    holds: Callable[[Any], object]


def read(annotation: Any, value: Any) -> Any:
    """Return `value` as the type that `annotation` names; numbers may be words, and 1e5 is a whole number.

    >>> from annotated_types import Ge
    >>> read(Annotated[int, Ge(0)], "1e5")
    100000
    >>> read(Annotated[int, Ge(0)], "-1")
    Traceback (most recent call last):
    limen.registry.values.Mismatch: expected a whole number of at least 0, got -1.

    Raises:
        Mismatch: it cannot be read so, or lies outside the annotation's bounds.
    """
    bare, metadata = _unwrap(annotation)
    options = [option for option in get_args(bare) if option is not type(None)] if _is_union(bare) else [bare]
    if value is None and len(options) < len(get_args(bare)):
        return None
    if len(options) == 1 and options[0] is not bare:
        bare, inner = _unwrap(options[0])
        metadata = [*metadata, *inner]
    choices = get_args(bare) if get_origin(bare) is Literal else ()
    name, reader = READERS.get(get_origin(bare) or bare, ("", None))
    known = all(isinstance(m, (Ge, Gt, Le, Lt, Rule, DocInfo)) for m in metadata)
    if choices:
        name, reader = " or ".join(map(str, choices)), _one_of(choices)
    if reader is None or not known:
        return _by_pydantic(annotation, value)
    rules = [m for m in metadata if isinstance(m, Rule)]
    expected = rules[0].expected if rules else name + _bounds(metadata)
    try:
        out = reader(value)
    except (ValueError, TypeError, OverflowError, LookupError):
        raise Mismatch(f"expected {expected}, got {shown(value)}.") from None
    if not all(_holds(condition, out) for condition in metadata):
        raise Mismatch(f"expected {expected}, got {shown(value)}.")
    return out


def plain(annotation: Any) -> Any:
    """Return the type that an annotation stands for, without what else it says.

    >>> plain(Annotated[float | None, "a comment"])
    <class 'float'>
    """
    bare, _ = _unwrap(annotation)
    options = [option for option in get_args(bare) if option is not type(None)] if _is_union(bare) else [bare]
    return bare if len(options) != 1 else _unwrap(options[0])[0]


def shown(value: object) -> str:
    """Return a value as a message shows it: numbers bare, text in quotes."""
    try:
        float(value)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        return repr(value)
    return str(value)


def _unwrap(annotation: Any) -> tuple[Any, list[Any]]:
    if get_origin(annotation) is not Annotated:
        return annotation, []
    bare, *metadata = get_args(annotation)
    flat = [m for item in metadata for m in (item if isinstance(item, GroupedMetadata) else [item])]
    return bare, flat


def _is_union(bare: Any) -> bool:
    return get_origin(bare) in (Union, types.UnionType)


def _bounds(metadata: list[Any]) -> str:
    low = next((f"{m.ge}" for m in metadata if isinstance(m, Ge)), None)
    high = next((f"{m.le}" for m in metadata if isinstance(m, Le)), None)
    if low is not None and high is not None:
        return f" from {low} to {high}"
    words = [f" of at least {low}"] if low is not None else []
    words += [f" above {m.gt}" for m in metadata if isinstance(m, Gt)]
    words += [f" of at most {high}"] if high is not None else []
    words += [f" below {m.lt}" for m in metadata if isinstance(m, Lt)]
    return " and".join(words)


def _holds(condition: Any, value: Any) -> bool:
    match condition:
        case Ge(ge):
            return bool(value >= ge)
        case Gt(gt):
            return bool(value > gt)
        case Le(le):
            return bool(value <= le)
        case Lt(lt):
            return bool(value < lt)
        case Rule(_, holds):
            return bool(holds(value))
    return True


def _whole(value: Any) -> int:
    match value:
        case bool():
            raise ValueError
        case int():
            return value
        case str() if value.strip().removeprefix("-").isdecimal():
            return int(value)  # not by way of a float, which would round it
    number = float(value)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(number := float(value)):
        raise ValueError
    return number


def _switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    return {"true": True, "yes": True, "false": False, "no": False}[_text(value).lower()]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    return {str(key): item for key, item in value.items()}


def _one_of(choices: tuple[Any, ...]) -> Callable[[Any], Any]:
    return lambda value: choices[choices.index(value)]


READERS: dict[Any, tuple[str, Callable[[Any], Any] | None]] = {
    int: ("a whole number", _whole),
    float: ("a finite number", _number),
    bool: ("True or False", _switch),
    str: ("text", _text),
    dict: ("a mapping such as {width: 400}", _mapping),
}


def _by_pydantic(annotation: Any, value: Any) -> Any:
    import pydantic

    try:
        return pydantic.TypeAdapter(annotation).validate_python(value)
    except pydantic.ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Input should be ").split(", unable to parse")[0]
        raise Mismatch(f"expected {reason}, got {shown(value)}.") from None
    except pydantic.errors.PydanticUserError:
        return value  # a class that pydantic knows nothing of
