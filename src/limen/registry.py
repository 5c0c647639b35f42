"""One file a plug-in: the file name is the name, `make(*, …)` is the schema.

A family file `data/foo.py` (or `models/`, `dynamics/`, `probes/`) exports `make` with typed keyword-only
arguments, and may export

* `PATTERN`, a regular expression that ids of the family match in full; its named groups that matched are
  arguments of `make` (`fc-tanh-depth3` gives `activation="tanh", depth="3"`). Without it the id is the stem.
* `NAMES`, a tuple of ids to show in lists and to offer as nearest spellings. Without it the stem alone.

Both are literals: names, defaults and help are read from the source, so that the command line can list and
refuse without importing torch.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limen.errors import InputError, nearest

KINDS = {"data": "data set", "models": "model", "dynamics": "dynamics", "probes": "probe"}


@dataclass(frozen=True)
class Family:
    """One plug-in file, as read from its source.

    Attributes:
        kind: the folder it is in.
        stem: its file name without `.py`.
        pattern: ids it answers to.
        names: ids to show.
        summary: first line of its docstring.
        arguments: `make`'s keyword arguments as name -> (annotation, default) in source form.
    """

    kind: str
    stem: str
    pattern: str
    names: tuple[str, ...]
    summary: str
    arguments: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """The import path of the file."""
        return f"limen.{self.kind}.{self.stem}"


@functools.cache
def families(kind: str) -> tuple[Family, ...]:
    """Return the plug-ins in `limen/<kind>/`, in alphabetical order."""
    folder = Path(__file__).parent / kind
    return tuple(_read(kind, path) for path in sorted(folder.glob("[!_]*.py")) if _exports_make(path))


def _exports_make(path: Path) -> bool:
    return "\ndef make(" in path.read_text(encoding="utf-8")


def _read(kind: str, path: Path) -> Family:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    literals: dict[str, Any] = {}
    arguments: dict[str, tuple[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in ("PATTERN", "NAMES"):
                literals[name] = ast.literal_eval(node.value)
        elif isinstance(node, ast.FunctionDef) and node.name == "make":
            for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
                annotation = ast.unparse(argument.annotation) if argument.annotation else "Any"
                arguments[argument.arg] = (annotation, ast.unparse(default) if default else "")
    summary = (ast.get_docstring(tree) or "").split("\n")[0]
    stem = path.stem
    names = tuple(literals.get("NAMES", (stem,)))
    return Family(kind, stem, literals.get("PATTERN", re.escape(stem)), names, summary, arguments)


def names(kind: str) -> list[str]:
    """Return the ids of a kind that are worth showing."""
    return [name for family in families(kind) for name in family.names]


def is_import_path(name: str) -> bool:
    """Whether `name` is a user's `module:function` rather than an id of ours."""
    return ":" in name


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


def check_arguments(kind: str, name: str, given: Mapping[str, Any]) -> None:
    """Refuse arguments that `make` of the named plug-in does not take (a user's own function is asked later).

    Raises:
        InputError: an argument is unknown, or already spelled out by the id.
    """
    if is_import_path(name):
        return
    family, spelled = find(kind, name)
    free = [argument for argument in family.arguments if argument not in spelled and argument not in SUPPLIED]
    for key in given:
        if key in spelled:
            raise InputError(f"{KINDS[kind]} {name!r} already says {key}={spelled[key]}; leave {key} out.")
        if key not in free:
            raise InputError(
                f"{KINDS[kind]} {name!r} takes no argument {key!r}.{nearest(key, free)} "
                f"It takes: {', '.join(free) or 'none'}."
            )


SUPPLIED = ("input_shape", "outputs", "data_dir", "objective")
"""Arguments that limen fills in from the rest of the spec; a user's function gets those it names."""


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
    arguments = {**spelled, **given}
    for key, value in (supplied or {}).items():
        if _accepts(function, key):
            arguments[key] = value
    return function(**_typed(function, arguments, name))


def _accepts(function: Callable[..., Any], key: str) -> bool:
    return key in inspect.signature(function).parameters


def _typed(function: Callable[..., Any], arguments: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Check and convert `arguments` to the annotations of `function`, as pydantic does."""
    import pydantic

    parameters = inspect.signature(function, eval_str=True).parameters
    known = [key for key in parameters if key not in SUPPLIED]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    out: dict[str, Any] = {}
    for key, value in arguments.items():
        if key not in parameters:
            if not takes_any:
                raise InputError(f"{name!r} takes no argument {key!r}.{nearest(key, known)}")
            out[key] = value
            continue
        annotation = parameters[key].annotation
        if key in SUPPLIED or annotation is inspect.Parameter.empty:
            out[key] = value
            continue
        try:
            out[key] = pydantic.TypeAdapter(annotation).validate_python(value)
        except pydantic.ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise InputError(f"argument {key} of {name!r}: got {value!r}; {reason}.") from None
    missing = [
        key for key, p in parameters.items()
        if key not in out and p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if missing:
        raise InputError(f"{name!r} needs the argument {missing[0]!r}, which was not given.")
    return out


def import_function(path: str, kind: str) -> Callable[..., Any]:
    """Import a user's `module:function`, looking in the working directory too.

    Raises:
        InputError: the path is malformed, the module cannot be found, or it has no such function.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute.isidentifier():
        raise InputError(f"{kind} {path!r}: an import path has the form module:function, as in mypkg.nets:make_net.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{kind} {path!r}: cannot import {error.name!r}. Is it installed, or in the working directory?"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InputError(f"{kind} {path!r}: {module_name} has no function {attribute!r}.{nearest(attribute, known)}")
    return function  # type: ignore[no-any-return]
