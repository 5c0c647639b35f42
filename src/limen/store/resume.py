"""Where an existing run goes on: the newest checkpoint that can be read and whose records are all there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from limen.errors import StoreError
from limen.store import aside, blocks, checkpoints, layout, lines
from limen.store.checkpoints import Damaged, Extent
from limen.store.manifest import Manifest
from limen.types import Mark


@dataclass(frozen=True)
class Start:
    """Where a run starts, and what is already recorded.

    Attributes:
        mark: the boundary.
        extent: of the records before it.
        columns: those of them that are numbers or lists.
        checkpoint: the step of the checkpoint that it is taken from, None if it is the beginning.
        notes: what had to be skipped.
        aside: where what lies after it is kept, because damage is the reason that it is dropped.
    """

    mark: Mark
    extent: Extent = field(default_factory=lambda: Extent(0, 0, {}, 0.0))
    columns: lines.Columns = field(default_factory=lines.Columns)
    checkpoint: int | None = None
    notes: tuple[str, ...] = ()
    aside: Path | None = None


def find(folder: Path, manifest: Manifest, beginning: Mark, device: torch.device) -> Start:
    """Return where the run in `folder` may go on; nothing is changed yet.

    Raises:
        StoreError: a file cannot be read for another reason than damage, such as a failing disk or no memory.
    """
    try:
        return _find(folder, manifest, beginning, device)
    except OSError as error:
        raise StoreError(
            f"{error.filename or folder} cannot be read ({error.strerror or error}). Nothing was changed. "
            "Mend the disk, the permissions or the limit on open files, then --resume goes on."
        ) from error


def _find(folder: Path, manifest: Manifest, beginning: Mark, device: torch.device) -> Start:
    whole = _whole_lines(folder)
    notes = []
    for path in checkpoints.newest_first(folder):
        try:
            mark, extent = checkpoints.load(path, manifest["id"], device)
        except (Damaged, FileNotFoundError) as error:
            notes.append(f"checkpoint {path.name} cannot be read ({error}) and was skipped")
            continue
        if extent.scalars in whole and blocks.complete(folder, mark.step, extent.rows):
            columns = lines.Columns()
            if extent.scalars:
                for _, entry in lines.split(folder / layout.SCALARS, 0, extent.scalars):
                    columns.add(entry)
            # What lies after the newest checkpoint is recomputed to the last bit; after an older one it is not
            # certain that it had been recorded so.
            kept = aside.next_folder(folder) if notes else None
            if kept is not None:
                notes.append(
                    f"what was recorded from step {mark.step} on was set aside in {aside.name(kept)}"
                )
            return Start(mark, extent, columns, mark.step, tuple(notes), kept)
        notes.append(f"records before checkpoint {path.name} are damaged or missing, so it was skipped")
    if aside.worth_keeping(folder):
        kept = aside.next_folder(folder)
        notes.append(
            f"no usable checkpoint, so the run began again; what was there was set aside in {aside.name(kept)}"
        )
        return Start(beginning, notes=tuple(notes), aside=kept)
    notes.append("no usable checkpoint, so the run began again")
    return Start(beginning, notes=tuple(notes))


def cut(folder: Path, start: Start) -> None:
    """Drop what lies after `start`, so that the records end where the run goes on.

    The published tensors stay until the run replaces them.

    Raises:
        OSError: a file cannot be changed.
    """
    if start.aside is not None:
        aside.keep(folder, start.aside, start.mark.step, start.extent, start.checkpoint)
    for path in aside.later(folder, start.checkpoint):
        path.unlink()
    scalars, timing = folder / layout.SCALARS, folder / layout.TIMING
    if scalars.exists():
        os.truncate(scalars, start.extent.scalars)
    if timing.exists():
        # Nothing depends on it, so it may be shorter than it was at the checkpoint.
        os.truncate(timing, timing.read_bytes().rfind(b"\n", 0, start.extent.timing) + 1)
    blocks.cut(folder, start.mark.step)
    for path in layout.temporaries(folder):
        path.unlink()


def _whole_lines(folder: Path) -> set[int]:
    """Return the places (in bytes) up to which `scalars.jsonl` is in order."""
    places = {0}
    try:
        for end, _ in lines.split(folder / layout.SCALARS):
            places.add(end)
    except (FileNotFoundError, StoreError):
        return places
    return places
