"""The user's own code, named as `module:function`."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from limen.errors import InputError, nearest

_packages: set[str] = set()
"""Top-level packages that hold the user's own functions."""


def is_import_path(name: str) -> bool:
    """Whether `name` is a user's `module:function` rather than an id of ours."""
    return ":" in name


def import_function(path: str, kind: str) -> Callable[..., Any]:
    """Import a user's `module:function`, looking in the working directory too.

    Raises:
        InputError: the path is malformed, the module cannot be imported, or it has no such function.
    """
    module_name, _, attribute = path.partition(":")
    if not attribute.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise InputError(
            f"{kind} {path!r}: expected an import path of the form module:function, "
            "as in mypkg.nets:make_net."
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    _packages.update({module_name.split(".")[0]} - {"limen"})
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{kind} {path!r}: cannot import {error.name!r}. Is it installed, or in the working directory?"
        ) from error
    except (Exception, SystemExit) as error:
        where = f" in {place}" if (place := place_of(error)) else ""
        raise InputError(
            f"{kind} {path!r}: importing {module_name} failed{where}: {describe(error)}. Mend it there."
        ) from error
    function: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        got = f"no function {attribute!r}" if function is None else f"no function but a value {attribute!r}"
        raise InputError(f"{kind} {path!r}: {module_name} has {got}.{nearest(attribute, known)}")
    return function


def parameters_of(function: Callable[..., Any], what: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function or class by name, annotations evaluated where they can be.

    Args:
        function: to be called by keywords.
        what: it is, for the error.

    Raises:
        InputError: it does not tell its parameters, as some functions written in C do.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise InputError(f"{what}: it does not say what it takes; wrap it in a Python function.") from None
    module = sys.modules.get(function.__module__)
    scope = vars(module) if module is not None else {}
    return {
        name: parameter.replace(annotation=_evaluated(parameter.annotation, scope))
        for name, parameter in signature.parameters.items()
    }


def _evaluated(annotation: Any, scope: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(scope))
    except (NameError, AttributeError, TypeError, SyntaxError):
        return inspect.Parameter.empty  # a name for the type checker alone: the value goes in as it is


def place_of(error: BaseException) -> str | None:
    """Return file, line and function of the user's own code that `error` came through last; None if none."""
    found = None
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{_short(error.filename)}, line {error.lineno}"
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).split(".")[0] in _packages:
            found = f"{_short(frame.f_code.co_filename)}, line {line}, in {frame.f_code.co_name}"
    return found


def describe(error: BaseException) -> str:
    """Return type and first line of an error."""
    text = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
