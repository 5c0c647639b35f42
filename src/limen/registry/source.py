"""Plug-in files as their source tells them: nothing of theirs is imported."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIGHT = ("annotated_types", "collections.abc", "pathlib", "pydantic", "typing")
"""Modules whose names may stand in an annotation that is evaluated before torch is imported."""


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
        imported: where the light names in its annotations come from, as name -> (module, name there).
    """

    kind: str
    stem: str
    pattern: str
    names: tuple[str, ...]
    summary: str
    arguments: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    imported: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """The import path of the file."""
        return f"limen.{self.kind}.{self.stem}"

    def annotation(self, argument: str) -> Any:
        """Return the type of an argument, `Parameter.empty` where only importing the file would tell it."""
        text = self.arguments[argument][0]
        words = {node.id for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)}
        light = {word: _look_up(*self.imported[word]) for word in words & self.imported.keys()}
        try:
            return eval(text, {}, light)
        except NameError:
            return inspect.Parameter.empty

    def defaults(self) -> dict[str, Any]:
        """Return the defaults that are literals, by argument."""
        found: dict[str, Any] = {}
        for argument, (_, text) in self.arguments.items():
            try:
                found[argument] = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                continue
        return found


def _look_up(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


@functools.cache
def families(kind: str) -> tuple[Family, ...]:
    """Return the plug-ins in `limen/<kind>/`, in alphabetical order."""
    folder = Path(__file__).parent.parent / kind
    sources = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("[!_]*.py"))}
    return tuple(read(kind, stem, text) for stem, text in sources.items() if "\ndef make(" in text)


def read(kind: str, stem: str, text: str) -> Family:
    """Return the family whose file `stem`.py holds `text`."""
    tree = ast.parse(text)
    literals: dict[str, Any] = {}
    arguments: dict[str, tuple[str, str]] = {}
    imported: dict[str, tuple[str, str]] = {}
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="PATTERN" | "NAMES" as name)]):
                literals[name] = ast.literal_eval(node.value)
            case ast.ImportFrom(module=str(module)) if module in LIGHT:
                imported |= {alias.asname or alias.name: (module, alias.name) for alias in node.names}
            case ast.FunctionDef(name="make"):
                for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
                    annotation = ast.unparse(argument.annotation) if argument.annotation else "object"
                    arguments[argument.arg] = (annotation, ast.unparse(default) if default else "")
    summary = (ast.get_docstring(tree) or "").split("\n")[0]
    shown = tuple(literals.get("NAMES", (stem,)))
    return Family(kind, stem, literals.get("PATTERN", re.escape(stem)), shown, summary, arguments, imported)
