"""Where an existing run goes on: the newest checkpoint that can be read and whose records are all there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from limen.errors import StoreError
from limen.store import blocks, checkpoints, layout, lines
from limen.store.checkpoints import Extent
from limen.store.manifest import Manifest
from limen.types import Mark


@dataclass(frozen=True)
class Start:
    """Where a run starts, and what is already recorded.

    Attributes:
        mark: the boundary.
        extent: of the records before it.
        columns: those of them that are numbers or lists.
        notes: what had to be skipped.
    """

    mark: Mark
    extent: Extent = field(default_factory=lambda: Extent(0, 0, {}, 0.0))
    columns: lines.Columns = field(default_factory=lines.Columns)
    notes: tuple[str, ...] = ()


def find(folder: Path, manifest: Manifest, beginning: Mark, device: torch.device) -> Start:
    """Return where the run in `folder` may go on; nothing is changed yet."""
    whole = _whole_lines(folder)
    notes = []
    for path in checkpoints.newest_first(folder):
        try:
            mark, extent = checkpoints.load(path, manifest["id"], device)
        except checkpoints.UNREADABLE as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            notes.append(f"checkpoint {path.name} cannot be read ({reason}) and was skipped")
            continue
        if extent.scalars in whole and blocks.complete(folder, mark.step, extent.rows):
            columns = lines.Columns()
            if extent.scalars:
                for _, entry in lines.split(folder / layout.SCALARS, 0, extent.scalars):
                    columns.add(entry)
            return Start(mark, extent, columns, tuple(notes))
        notes.append(f"records before checkpoint {path.name} are damaged or missing, so it was skipped")
    notes.append("no usable checkpoint, so the run began again")
    return Start(beginning, notes=tuple(notes))


def cut(folder: Path, start: Start) -> None:
    """Drop what lies after `start`, so that the records end where the run goes on.

    Raises:
        OSError: a file cannot be changed.
    """
    if start.mark.step == 0:
        layout.erase(folder)
        return
    for path in checkpoints.newest_first(folder):
        if int(path.stem) > start.mark.step:
            path.unlink()
    os.truncate(folder / layout.SCALARS, start.extent.scalars)
    timing = folder / layout.TIMING
    if timing.exists():
        # Nothing depends on it, so it may be shorter than it was at the checkpoint.
        os.truncate(timing, timing.read_bytes().rfind(b"\n", 0, start.extent.timing) + 1)
    blocks.cut(folder, start.mark.step)


def _whole_lines(folder: Path) -> set[int]:
    """Return the places (in bytes) up to which `scalars.jsonl` is in order."""
    places = {0}
    try:
        for end, _ in lines.split(folder / layout.SCALARS):
            places.add(end)
    except (FileNotFoundError, StoreError):
        return places
    return places
