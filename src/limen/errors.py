"""The errors a user can meet: what was expected, what was got, how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LimenError(Exception):
    """Anything limen refuses or cannot go on with; shown as one message, never as a traceback.

    Attributes:
        exit_code: what the command line exits with when this reaches it.
    """

    exit_code = 1


class InputError(LimenError, ValueError):
    """A value, name, file or shape given by the user does not fit."""

    exit_code = 2


class DataError(LimenError):
    """A data file is missing, damaged or not what it claims to be."""


class StoreError(LimenError):
    """A run folder cannot be written, read, locked or resumed."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the spelling nearest to `word`, or an empty string.

    >>> nearest("digts", ["digits", "linear-50-50"])
    " Did you mean 'digits'?"
    >>> nearest("zzz", ["digits"])
    ''
    """
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {found[0]!r}?" if found else ""
