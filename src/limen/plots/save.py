"""Writing a figure: the suffix decides the format, and no half-written file is ever seen."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.figure import Figure

from limen.errors import InputError, StoreError, nearest

FORMATS = ("png", "pdf", "svg")

# Dates and versions left out: the same records give the same bytes.
METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Date": None, "Creator": None},
}


def format_of(path: Path) -> str:
    """Return the format that the suffix of `path` names.

    Raises:
        InputError: it names none of ours.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise InputError(
            f"figure {str(path)!r}: expected a file name ending in .png, .pdf or .svg, got "
            f"{path.suffix or 'no suffix'!r}.{nearest(suffix, FORMATS)}"
        )
    return suffix


def save(figure: Figure, path: Path) -> None:
    """Write `figure` to `path`, whose parent folders are made: first beside it, then in its place.

    Raises:
        InputError: the suffix names no format of ours.
        StoreError: the file or a folder cannot be written; an earlier figure there is left as it was.
    """
    format = format_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                figure.savefig(file, format=format, metadata=METADATA[format])
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot write the figure {str(path)!r}: {error.strerror or error}. "
            "Name a file in a folder that you may write to, with space left on its disk."
        ) from error
