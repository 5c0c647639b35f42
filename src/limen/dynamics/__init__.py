"""Rules of motion: one file a rule, each exporting `make(*, …) -> Dynamics` (see CONTRIBUTING.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limen import registry
from limen.dynamics._together import Together
from limen.errors import InputError
from limen.types import Dynamics

__all__ = ["Together", "make"]


def make(name: str, arguments: Mapping[str, Any] | None = None) -> Dynamics:
    """Return the dynamics `name`, an id of ours or a user's `module:function`, with its arguments.

    Raises:
        InputError: the name or an argument does not fit.
    """
    made = registry.make("dynamics", name, arguments or {})
    if not isinstance(made, Dynamics):
        raise InputError(f"dynamics {name!r}: expected a limen.types.Dynamics, got {type(made).__name__}.")
    return made
