"""Which run folders there are, and a stamp of each that changes when its records do.

The names of the store are repeated here, not imported: with them would come numpy, which a warm `limen ls` can do
without. A test holds them together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MANIFEST, SCALARS, HALF = "run.json", "scalars.jsonl", ".run.json.tmp"
PRIVATE = frozenset({"series", "checkpoints", "set_aside"})
"""Folders of a run in which no other run lies."""


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
            yield place or ".", " ".join(_stamp(files.get(name)) for name in (MANIFEST, SCALARS))
            below = [name for name in below if name not in PRIVATE]
        waiting += [f"{place}/{name}" if place else name for name in below]


def _stamp(entry: os.DirEntry[str] | None) -> str:
    if entry is None:
        return "-"
    try:
        found = entry.stat()
    except OSError:
        return "?"
    return f"{found.st_size}.{found.st_mtime_ns}.{found.st_ino}"
