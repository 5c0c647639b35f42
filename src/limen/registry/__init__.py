"""One file a plug-in: the file name is the name, `make(*, …)` is the schema.

A family file `data/foo.py` (or `models/`, `dynamics/`, `probes/`) exports `make` with typed keyword-only
arguments, and may export

* `PATTERN`, a regular expression that ids of the family match in full; its named groups that matched are
  arguments of `make` (`fc-tanh-depth3` gives `activation="tanh", depth="3"`). Without it the id is the stem.
* `NAMES`, a tuple of ids to show in lists and to offer as nearest spellings. Without it the stem alone.

Both are literals: names, defaults and types are read from the source, so that the command line can list and
refuse without importing torch.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from typing import Any

from limen.errors import InputError, nearest
from limen.registry import values
from limen.registry.own import import_function, is_import_path, parameters_of
from limen.registry.source import Family, families

__all__ = [
    "KINDS",
    "SUPPLIED",
    "Family",
    "check_arguments",
    "families",
    "find",
    "import_function",
    "is_import_path",
    "make",
    "names",
    "without_defaults",
]

KINDS = {"data": "data set", "models": "model", "dynamics": "dynamics", "probes": "probe"}

SUPPLIED = ("input_shape", "outputs", "data_dir", "objective")
"""Arguments that limen fills in from the rest of the spec; a user's function gets those it names."""


def names(kind: str) -> list[str]:
    """Return the ids of a kind that are worth showing."""
    return [name for family in families(kind) for name in family.names]


def find(kind: str, name: str) -> tuple[Family, dict[str, str]]:
    """Return the family that answers to `name` and the arguments that the id spells out (as strings).

    Raises:
        InputError: nothing does; the message lists what exists and offers the nearest spelling.
    """
    for family in families(kind):
        if match := re.fullmatch(family.pattern, name):
            return family, {key: text for key, text in match.groupdict().items() if text is not None}
    known = names(kind)
    raise InputError(
        f"unknown {KINDS[kind]} {name!r}.{nearest(name, known)} "
        f"There are: {', '.join(known)}; or your own as module:function."
    )


def check_arguments(kind: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments for `make` of the named plug-in with their types, as far as its source tells them.

    What a user's own function takes is asked when it is called.

    Raises:
        InputError: an argument is unknown, already spelled out by the id, or of the wrong type.
    """
    if is_import_path(name):
        return dict(given)
    family, spelled = find(kind, name)
    free = [argument for argument in family.arguments if argument not in spelled and argument not in SUPPLIED]
    typed: dict[str, Any] = {}
    for key, value in given.items():
        if key in spelled:
            raise InputError(f"{KINDS[kind]} {name!r} already says {key}={spelled[key]}; leave {key} out.")
        if key not in free:
            raise InputError(
                f"{KINDS[kind]} {name!r} takes no argument {key!r}.{nearest(key, free)} "
                f"It takes: {', '.join(free) or 'none'}."
            )
        typed[key] = _read(family.annotation(key), value, kind, name, key)
    return typed


def without_defaults(kind: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `given` that differ from the defaults of the named plug-in's `make`."""
    if is_import_path(name):
        return dict(given)
    defaults = find(kind, name)[0].defaults()
    return {key: value for key, value in given.items() if key not in defaults or defaults[key] != value}


def make(kind: str, name: str, given: Mapping[str, Any], supplied: Mapping[str, Any] | None = None) -> Any:
    """Build the plug-in `name` from the id's own arguments, the user's (`given`) and limen's (`supplied`).

    Raises:
        InputError: the name, an argument's name or its type does not fit.
    """
    if is_import_path(name):
        function = import_function(name, KINDS[kind])
        spelled: dict[str, str] = {}
    else:
        check_arguments(kind, name, given)
        family, spelled = find(kind, name)
        function = importlib.import_module(family.module).make
    parameters = parameters_of(function, f"{KINDS[kind]} {name!r}")
    fitting = {key: value for key, value in (supplied or {}).items() if key in parameters}
    return function(**_typed(parameters, {**spelled, **given, **fitting}, kind, name))


def _typed(
    parameters: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any], kind: str, name: str
) -> dict[str, Any]:
    """Check and convert `arguments` to the annotations of `parameters`."""
    known = [key for key in parameters if key not in SUPPLIED]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    out: dict[str, Any] = {}
    for key, value in arguments.items():
        if key in SUPPLIED or (key not in parameters and takes_any):
            out[key] = value
        elif key not in parameters:
            raise InputError(
                f"{KINDS[kind]} {name!r} takes no argument {key!r}.{nearest(key, known)} "
                f"It takes: {', '.join(known) or 'none'}."
            )
        else:
            out[key] = _read(parameters[key].annotation, value, kind, name, key)
    missing = [key for key, p in parameters.items() if key not in out and p.default is p.empty and _named(p)]
    if missing:
        option = {"data": "--data.", "models": "--model."}.get(kind, "")
        raise InputError(
            f"{KINDS[kind]} {name!r} needs the argument {missing[0]!r}, which was not given"
            + (f"; add {option}{missing[0]} VALUE." if option else ".")
        )
    return out


def _named(parameter: inspect.Parameter) -> bool:
    return parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)


def _read(annotation: Any, value: Any, kind: str, name: str, key: str) -> Any:
    if annotation is inspect.Parameter.empty:
        return value
    try:
        return values.read(annotation, value)
    except values.Mismatch as error:
        raise InputError(f"{KINDS[kind]} {name!r}, argument {key}: {error}") from None
