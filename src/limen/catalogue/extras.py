"""Packages that only the tables over studies need."""

from __future__ import annotations

import importlib
from typing import Any

from limen.errors import InputError


def need(name: str, what: str) -> Any:
    """Import the package `name`, which `what` cannot do without.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{what} needs {name.split('.')[0]}, which is not installed ({error}): pip install 'limen[study]'"
        ) from error
