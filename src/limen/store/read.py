"""Reading runs, finished or still being written; without torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.errors import InputError, StoreError, nearest
from limen.store import blocks, layout, lines, lock, manifest
from limen.types import Status

ABANDONED = "the process ended without closing the run; --resume goes on"


@dataclass(frozen=True)
class Series:
    """One recorded quantity.

    Attributes:
        steps: step of each measurement (m,), int64.
        t: time of each in the clock of the dynamics (m,), float64.
        values: what was measured, (m,) or (m, …); float64 for numbers and lists, the stored type for tensors.
    """

    steps: NDArray[np.int64]
    t: NDArray[np.float64]
    values: NDArray[Any]


class Run:
    """A run in its folder.

    Attributes:
        folder: where it lies.
        info: what `run.json` says.
        status: how it stood when it was opened.
        why: how it came to that, in words that say what to do next.
    """

    def __init__(self, folder: Path, info: dict[str, Any], status: Status, why: str) -> None:
        self.folder, self.info, self.status, self.why = folder, info, status, why
        self._columns = lines.Columns()
        self._end = 0

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.status})"

    @property
    def spec(self) -> dict[str, Any]:
        """The words that describe it; empty for a run made from Python."""
        return dict(self.info.get("spec", {}))

    @property
    def threshold(self) -> float | None:
        """Sharpness above which its rule is unstable on a quadratic; None if there is none."""
        value = self.info.get("threshold")
        return None if value is None else float(value)

    @property
    def notes(self) -> list[str]:
        """What happened at each resume that a reader should know: what was skipped, what had changed."""
        return [note for at in self.info.get("resumed", []) for note in notes_of(at)]

    def names(self) -> list[str]:
        """Return the names of what was recorded, `branch/name` where there are branches."""
        return list(dict.fromkeys([*self._read(), *layout.series_keys(self.folder)]))

    def series(self, name: str) -> Series:
        """Return the records of `name` so far.

        Raises:
            InputError: there are none.
            StoreError: they cannot be read.
        """
        columns = self._read()
        if name in columns:
            column = columns[name]
            return Series(np.array(column.steps, dtype=np.int64), np.array(column.t), column.array())
        if name in layout.series_keys(self.folder):
            return Series(*blocks.read(self.folder, name))
        known = self.names()
        raise InputError(
            f"{self.folder} has no records of {name!r}.{nearest(name, known)} "
            f"It has: {', '.join(known) or 'none'}."
        )

    def summary(self) -> dict[str, Any]:
        """Return `step`, the last one recorded (None if there is none), and the last value of each number."""
        columns = self._read()
        last: dict[str, Any] = {"step": max((column.steps[-1] for column in columns.values()), default=None)}
        for name, column in columns.items():
            if not isinstance(column.values[-1], list):
                last[name] = float(column.values[-1])
        return last

    def _read(self) -> lines.Columns:
        """Read on from where the last call ended."""
        path = self.folder / layout.SCALARS
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size < self._end:  # a resume has cut it
            self._columns, self._end = lines.Columns(), 0
        if size > self._end:
            try:
                for end, entry in lines.split(path, self._end):
                    self._columns.add(entry)
                    self._end = end
            except OSError as error:
                raise StoreError(
                    f"{path} cannot be read ({error.strerror or error}): expected a file of records. "
                    "Mend its permissions, or restore it from a copy."
                ) from error
        return self._columns


def notes_of(at: Mapping[str, Any]) -> list[str]:
    """Return the notes of one resume, as a reader sees them."""
    return [f"resumed at step {at['step']}: {note}" for note in at["notes"]]


def open_run(folder: Path | str) -> Run:
    """Return the run in `folder`.

    Raises:
        StoreError: there is none, or its `run.json` cannot be read.
    """
    folder = Path(folder)
    info = manifest.load(folder)
    status, why = standing(info)
    if status is Status.RUNNING and not lock.held(folder):
        info = manifest.load(folder)  # it may have ended in between
        status, why = standing(info)
        if status is Status.RUNNING:
            return Run(folder, info, Status.INTERRUPTED, ABANDONED)
    return Run(folder, info, status, why)


def standing(info: dict[str, Any]) -> tuple[Status, str]:
    """Return what `run.json` says about how the run stands, and why.

    Raises:
        StoreError: the status is none that limen writes.
    """
    try:
        return Status(info["status"]), str(info["why"])
    except ValueError:
        known = ", ".join(Status)
        raise StoreError(
            f"{layout.MANIFEST} has status {info['status']!r}, expected one of {known}."
        ) from None


def find_runs(root: Path | str) -> list[Run]:
    """Return the runs in `root` and below, sorted by path; one that cannot be read is listed as failed."""
    return [_open_any(folder) for folder in sorted(_folders(Path(root)))]


def _folders(root: Path) -> Iterator[Path]:
    for here, below, names in os.walk(root):
        if layout.MANIFEST in names:
            below[:] = [
                name for name in below if name not in (layout.SERIES, layout.CHECKPOINTS, layout.ASIDE)
            ]
            yield Path(here)


def _open_any(folder: Path) -> Run:
    try:
        return open_run(folder)
    except StoreError as error:
        return Run(folder, {}, Status.FAILED, str(error))
