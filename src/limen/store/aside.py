"""What a resume cannot use is moved to `set_aside/<n>/` in the run folder: limen deletes nothing unasked."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

from limen.store import blocks, checkpoints, files, layout
from limen.store.checkpoints import Extent


def next_folder(folder: Path) -> Path:
    """Return the first `set_aside/<n>` in a run folder that is not there yet."""
    root = folder / layout.ASIDE
    return next(path for n in itertools.count(1) if not (path := root / str(n)).exists())


def name(aside: Path) -> str:
    """Return what a note calls such a folder."""
    return f"{aside.parent.name}/{aside.name}"


def worth_keeping(folder: Path) -> bool:
    """Whether a run folder holds records, published tensors or checkpoints."""
    idle = {folder / layout.TIMING, *layout.temporaries(folder)}
    return any(path.stat().st_size > 0 for path in layout.own_files(folder) if path not in idle)


def later(folder: Path, checkpoint: int | None) -> list[Path]:
    """Return the checkpoints after that of a step, all of them if there is none to go on from."""
    found = checkpoints.newest_first(folder)
    return [path for path in found if checkpoint is None or int(path.stem) > checkpoint]


def keep(folder: Path, aside: Path, step: int, extent: Extent, checkpoint: int | None) -> None:
    """Keep in `aside` all that is about to be dropped from a run folder.

    Args:
        folder: of the run.
        aside: where to; it is made.
        step: from which the run goes on.
        extent: of the records before that step.
        checkpoint: which it goes on from, if there is one; without it the published tensors are moved too.

    Raises:
        OSError: a file cannot be moved or copied; nothing is lost.
    """
    aside.mkdir(parents=True, exist_ok=True)
    for text, size in ((layout.SCALARS, extent.scalars), (layout.TIMING, extent.timing)):
        _keep_tail(folder / text, size, aside / text)
    moved = later(folder, checkpoint)
    for path in layout.block_files(folder):
        if int(path.stem) >= step:
            moved.append(path)
        elif blocks.steps_of(path)[-1] >= step:
            shutil.copy2(path, _place(path, folder, aside))
    if checkpoint is None:
        moved += layout.published_files(folder)
    for path in moved:
        path.rename(_place(path, folder, aside))


def _place(path: Path, folder: Path, aside: Path) -> Path:
    place = aside / path.relative_to(folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _keep_tail(path: Path, start: int, target: Path) -> None:
    if not path.exists() or path.stat().st_size <= start:
        return
    if start == 0:
        path.rename(target)
        return
    with path.open("rb") as file:
        file.seek(start)
        files.replace(target, file.read())
