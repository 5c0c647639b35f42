"""Which run folders there are, and a stamp of each that changes when its records do.

The names of the store are repeated here, not imported: with them would come numpy, which a warm `limen ls` can do
without. A test holds them together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from limen.errors import StoreError

MANIFEST, SCALARS, HALF = "run.json", "scalars.jsonl", ".run.json.tmp"
STUDY = "study.json"
PRIVATE = frozenset({"series", "checkpoints", "set_aside"})
"""Folders of a run in which no other run lies."""


def study(folder: Path) -> tuple[Path, list[str]] | None:
    """Return the results of the study in `folder` and its runs relative to them; None where there is no study.

    Raises:
        StoreError: its `study.json` cannot be read.
    """
    folder = folder.resolve()  # `.` has no parents
    try:
        content = json.loads((folder / STUDY).read_text(encoding="utf-8"))
        return folder.parent.parent, [str(point["run"]) for point in content["points"]]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{folder / STUDY} cannot be read ({type(error).__name__}: {error}). Run the sweep again: it is rebuilt."
        ) from error


def stamps_of(root: Path, runs: Sequence[str]) -> dict[str, str]:
    """Return the stamps of those of `runs` (folders relative to `root`) that have begun."""
    found = {}
    for run in runs:
        try:
            with os.scandir(root / run) as entries:
                files = {entry.name: entry for entry in entries if entry.name in (MANIFEST, SCALARS, HALF)}
        except OSError:
            continue
        if files:
            found[run] = _stamp_of(files)
    return found


def stamps(root: Path) -> dict[str, str]:
    """Return the folders in `root` and below that hold a run, or the beginning of one, each with its stamp.

    A stamp is made of the sizes, times and inodes of `run.json` and `scalars.jsonl`. The first is replaced as a whole
    and the second only grows, so equal stamps mean equal contents. Folders are relative, with slashes.
    """
    return dict(_walk(str(root)))


def _walk(root: str) -> Iterator[tuple[str, str]]:
    waiting = [""]
    while waiting:
        place = waiting.pop()
        files, below = {}, []
        try:
            with os.scandir(f"{root}/{place}") as entries:
                for entry in entries:
                    if entry.name in (MANIFEST, SCALARS, HALF):
                        files[entry.name] = entry
                    elif entry.is_dir(follow_symlinks=False):
                        below.append(entry.name)
        except OSError:  # a folder that may not be read, or has just gone, holds no run to list
            continue
        if files:
            yield place or ".", _stamp_of(files)
            below = [name for name in below if name not in PRIVATE]
        waiting += [f"{place}/{name}" if place else name for name in below]


def _stamp_of(files: Mapping[str, os.DirEntry[str]]) -> str:
    return " ".join(_stamp(files.get(name)) for name in (MANIFEST, SCALARS))


def _stamp(entry: os.DirEntry[str] | None) -> str:
    if entry is None:
        return "-"
    try:
        found = entry.stat()
    except OSError:
        return "?"
    return f"{found.st_size}.{found.st_mtime_ns}.{found.st_ino}"
