"""What lies where in a run folder, and which of its files are limen's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from limen.errors import InputError

FORMAT = 1
"""Of the run folder; a larger number is refused."""

MANIFEST = "run.json"
SCALARS = "scalars.jsonl"
TIMING = "timing.jsonl"
SERIES = "series"
CHECKPOINTS = "checkpoints"
ASIDE = "set_aside"
LOCK = ".lock"
WRITER = ".writer.json"
CURVES = ("train_loss", "test_loss", "train_acc", "test_acc")
ROWS = {"eigs": "neigs", "iterates": "nproj"}
"""Published tensors of several columns, and the word of the spec that says how many."""

TIMES = ("time", "times")
"""Of a flow's curves; the published code writes the first at the end and the second on the way."""

SNAPSHOT = "snapshot_final"
PUBLISHED = (*CURVES, *ROWS, *TIMES)
HPARAMS, INITIAL, FINAL, LOG, SUMMARY = (
    *("hparams.yaml", "model_init.pt", "model_final.pt"),
    *("log.pt", "summary.pt"),
)
TRAINING = (HPARAMS, INITIAL, FINAL, LOG, SUMMARY)
"""What training leaves in the folder, beside `checkpoints/state_<n>ba.pt`."""


def temporary(path: Path) -> Path:
    """Return where the next version of `path` is written before it takes the name."""
    return path.with_name(f".{path.name}.tmp")


def check_name(name: str, probe: str) -> None:
    """Refuse a quantity whose name cannot be a folder's.

    Raises:
        InputError: it has other characters than letters, digits, `_`, `-`, `.` and `+`, or begins with a dot.
    """
    if not re.fullmatch(r"[\w+-][\w.+-]*", name):
        raise InputError(
            f"probe {probe!r} records {name!r}; expected a name of letters, digits, '_', '-', '+' and '.', "
            "not beginning with a dot."
        )


def numbered(folder: Path, suffix: str) -> list[Path]:
    """Return the files `<step><suffix>` in `folder`, by increasing step."""
    found = [path for path in folder.glob(f"*{suffix}") if path.stem.isdecimal()]
    return sorted(found, key=lambda path: int(path.stem))


def series_folder(folder: Path, key: str) -> Path:
    """Return where the blocks of the quantity `key` lie (`name`, or `branch/name`)."""
    return folder.joinpath(SERIES, *key.split("/"))


def series_keys(folder: Path) -> list[str]:
    """Return the quantities of which there are blocks."""
    root = folder / SERIES
    return sorted({path.parent.relative_to(root).as_posix() for path in _blocks(root)})


def _blocks(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*.safetensors") if path.stem.isdecimal())


def block_files(folder: Path) -> list[Path]:
    """Return the blocks of all quantities in a run folder."""
    return sorted(_blocks(folder / SERIES))


def state_file(folder: Path, batch: int) -> Path:
    """Return where training publishes its weights after so many batches."""
    return folder / CHECKPOINTS / f"state_{batch}ba.pt"


def published_files(folder: Path) -> list[Path]:
    """Return the published files in a run folder, and the snapshot."""
    names = [SNAPSHOT, *PUBLISHED, *(f"{name}_final" for name in PUBLISHED), *TRAINING]
    states = [
        path
        for path in sorted((folder / CHECKPOINTS).glob("state_*ba.pt"))
        if path.stem.removeprefix("state_").removesuffix("ba").isdecimal()
    ]
    return [path for name in names if (path := folder / name).is_file()] + states


def temporaries(folder: Path) -> list[Path]:
    """Return what a crash left of files that were being written."""
    names = [MANIFEST, SNAPSHOT, *PUBLISHED, *(f"{name}_final" for name in PUBLISHED), *TRAINING]
    found = [temporary(folder / name) for name in names]
    found += [*(folder / CHECKPOINTS).glob(".*.pt.tmp"), *(folder / SERIES).rglob(".*.safetensors.tmp")]
    return [path for path in found if path.is_file()]


def own_files(folder: Path) -> list[Path]:
    """Return the files in `folder` that limen wrote, except `run.json`, the lock and what was set aside."""
    found = [folder / SCALARS, folder / TIMING, *published_files(folder)]
    found += [*numbered(folder / CHECKPOINTS, ".pt"), *block_files(folder), *temporaries(folder)]
    return [path for path in found if path.is_file()]


def erase(folder: Path) -> None:
    """Delete limen's own files in `folder`, and of the folders below only those that are empty then.

    Checkpoints go first: without them a resume begins again, whatever else is left.
    """
    found = own_files(folder)
    for path in sorted(found, key=lambda path: path.parent.name != CHECKPOINTS):
        path.unlink()
    folders = {parent for path in found for parent in path.parents if folder in parent.parents}
    for below in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        if not any(below.iterdir()):
            below.rmdir()
