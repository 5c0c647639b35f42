"""Recorded tensors: blocks of many rows, each one file of `step` (r,), `t` (r,) and `values` (r, …).

A block is replaced as a whole while it grows. It is full after a number of rows that the shape of a row alone
decides, so a resumed run writes the same files as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from limen.errors import InputError, StoreError
from limen.store import files, layout

if TYPE_CHECKING:
    from torch import Tensor

MAX_ROWS = 4096
MAX_BYTES = 1 << 22
SUFFIX = ".safetensors"


def capacity(row: NDArray[Any]) -> int:
    """Return how many such rows make a block full."""
    return max(1, min(MAX_ROWS, MAX_BYTES // max(1, row.nbytes)))


class Strip:
    """The growing block of one quantity.

    Attributes:
        total: rows in this block and those before.
    """

    def __init__(self, folder: Path) -> None:
        """Take up the series in `folder` after its last row, if it has one."""
        self.folder = folder
        self.unsynced: list[Path] = []
        self._clear()
        self._like: NDArray[Any] | None = None
        found = layout.numbered(folder, SUFFIX)
        self.total = sum(len(steps_of(path)) for path in found)
        if found:
            last = load_file(found[-1])
            self._like = last["values"][0]
            if len(last["values"]) < capacity(self._like):
                self._steps.extend(last["step"].tolist())
                self._t.extend(last["t"].tolist())
                self._rows.extend(last["values"])
                self._saved = len(self._rows)

    def _clear(self) -> None:
        self._steps: list[int] = []
        self._t: list[float] = []
        self._rows: list[NDArray[Any]] = []
        self._saved = 0

    def add(self, step: int, t: float, row: NDArray[Any]) -> None:
        """Append a row; a full block is written at once.

        Raises:
            InputError: the row is unlike those before.
            OSError: the block could not be written.
        """
        like = row if self._like is None else self._like
        if (row.shape, row.dtype) != (like.shape, like.dtype):
            raise InputError(
                f"{self.folder.name!r} at step {step}: a recorded tensor keeps its shape and type, expected "
                f"{list(like.shape)} {like.dtype}, got {list(row.shape)} {row.dtype}."
            )
        self._like = row
        self._steps.append(step)
        self._t.append(t)
        self._rows.append(row)
        self.total += 1
        if len(self._rows) >= capacity(row):
            self.flush()
            self._clear()

    def first_waiting(self) -> int | None:
        """Return the step of the first row that is in no file."""
        return self._steps[self._saved] if self._saved < len(self._steps) else None

    def flush(self) -> None:
        """Write the block, if rows came since the last time."""
        if self._saved == len(self._rows):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self._steps[0]}{SUFFIX}"
        steps, t = np.array(self._steps, dtype=np.int64), np.array(self._t, dtype=np.float64)
        data = save({"step": steps, "t": t, "values": np.stack(self._rows)})
        # Rows that a checkpoint counts on must not be lost with the file that replaces theirs.
        files.replace(path, data, sync=self._saved > 0)
        self.unsynced.append(path)
        self._saved = len(self._rows)


class Blocks:
    """The recorded tensors of a run that is being written."""

    def __init__(self, folder: Path) -> None:
        """Take up the series in the run folder."""
        self.folder = folder
        self._strips = {key: Strip(layout.series_folder(folder, key)) for key in layout.series_keys(folder)}

    def add(self, key: str, step: int, t: float, value: Tensor) -> None:
        """Append a tensor to the quantity `key`."""
        if key not in self._strips:
            self._strips[key] = Strip(layout.series_folder(self.folder, key))
        self._strips[key].add(step, t, _to_numpy(value))

    def rows(self) -> dict[str, int]:
        """Return how many rows each quantity has."""
        return {key: strip.total for key, strip in self._strips.items()}

    def first_waiting(self) -> int | None:
        """Return the first step of which a row is in no file."""
        steps = [step for strip in self._strips.values() if (step := strip.first_waiting()) is not None]
        return min(steps, default=None)

    def flush(self) -> None:
        """Write what has grown."""
        for strip in self._strips.values():
            strip.flush()

    def sync(self) -> None:
        """Bring what was written to the disk."""
        for strip in self._strips.values():
            for path in dict.fromkeys(strip.unsynced):
                files.sync(path)
            if strip.unsynced:
                files.sync(strip.folder)
            strip.unsynced.clear()


def _to_numpy(value: Tensor) -> NDArray[Any]:
    """Return a copy in numpy; a type that numpy lacks (bfloat16) widens to float32, exactly."""
    here = value.detach().cpu()
    try:
        return np.array(here.numpy())
    except TypeError:
        return np.array(here.float().numpy())


def steps_of(path: Path) -> list[int]:
    """Return the steps in a block."""
    with safe_open(path, framework="np") as block:
        return [int(step) for step in block.get_tensor("step")]


def complete(folder: Path, step: int, rows: Mapping[str, int]) -> bool:
    """Whether the series in a run folder hold the rows before `step` that a checkpoint there counts on.

    Raises:
        OSError: the disk does not give a block.
    """
    try:
        return all(
            _rows_before(layout.series_folder(folder, key), step) == count for key, count in rows.items()
        )
    except (SafetensorError, FileNotFoundError):
        return False


def _rows_before(folder: Path, step: int) -> int:
    found = [path for path in layout.numbered(folder, SUFFIX) if int(path.stem) < step]
    return sum(sum(at < step for at in steps_of(path)) for path in found)


def cut(folder: Path, step: int) -> None:
    """Drop the rows at `step` and later from the series in a run folder."""
    for key in layout.series_keys(folder):
        for path in layout.numbered(layout.series_folder(folder, key), SUFFIX):
            if int(path.stem) >= step:
                path.unlink()
            elif (steps := steps_of(path))[-1] >= step:
                keep = sum(at < step for at in steps)
                files.replace(path, save({name: x[:keep].copy() for name, x in load_file(path).items()}))


def read(folder: Path, key: str) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[Any]]:
    """Return steps (m,), times (m,) and values (m, …) of one series, also while it is being written.

    Raises:
        StoreError: a block cannot be read.
    """
    where = layout.series_folder(folder, key)
    for _ in range(10):
        try:
            parts = [load_file(path) for path in layout.numbered(where, SUFFIX)]
            steps, t, values = (
                np.concatenate([part[name] for part in parts]) for name in ("step", "t", "values")
            )
            return steps, t, values
        except FileNotFoundError:  # a run that resumes has just dropped it
            continue
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise StoreError(
                f"a block in {where} cannot be read ({error}). "
                "--resume records it anew from the last checkpoint before it."
            ) from error
    raise StoreError(f"the blocks in {where} keep changing; read them when the run has settled.")
