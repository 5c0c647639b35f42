"""Where a run may be taken up again: state, probe memories, and how much of the records belongs before it."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limen.errors import InputError, StoreError
from limen.store import files, layout
from limen.types import Mark, State

KEEP = 2
SUFFIX = ".pt"

TORN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
    LookupError,
)
"""What zipfile raises on a damaged archive in memory, where OSError is no fault of a disk."""

FOREIGN = (pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError)
"""What torch.load raises, and looking into what it gave, on a sound file of another make."""


class Damaged(Exception):
    """A file is no checkpoint of this run: torn, or of another make."""


@dataclass(frozen=True)
class Extent:
    """How much had been recorded before a step.

    Attributes:
        scalars: size of `scalars.jsonl` in bytes.
        timing: size of `timing.jsonl` in bytes.
        rows: rows of each series of blocks.
        seconds: time spent running.
    """

    scalars: int
    timing: int
    rows: dict[str, int]
    seconds: float


def save(folder: Path, mark: Mark, extent: Extent, run_id: str, *, check: bool) -> None:
    """Write the checkpoint of `mark` and delete all but the last two.

    Args:
        folder: of the run.
        mark: where it may be taken up.
        extent: of the records before it.
        run_id: of the run, so that a checkpoint of an overwritten run is never taken for one of this.
        check: whether to load it once, to find out now and not at a resume what cannot be stored.

    Raises:
        InputError: a probe's memory or the state holds other things than tensors and plain values.
        OSError: it could not be written.
    """
    content = {
        "id": run_id,
        "step": mark.step,
        "state": mark.state.to_dict(),
        "memory": dict(mark.memory),
        "extent": asdict(extent),
    }
    buffer = io.BytesIO()
    try:
        torch.save(content, buffer)
        if check:
            torch.load(io.BytesIO(buffer.getbuffer()), weights_only=True, map_location="cpu")
    except (pickle.PickleError, AttributeError, TypeError) as error:
        raise InputError(
            "a checkpoint holds tensors, numbers, text, lists and dictionaries; a probe's memory "
            f"or the state holds something else: {str(error).splitlines()[0]}"
        ) from None
    where = folder / layout.CHECKPOINTS
    where.mkdir(exist_ok=True)
    files.replace(where / f"{mark.step}{SUFFIX}", buffer.getbuffer())
    for old in layout.numbered(where, SUFFIX)[:-KEEP]:
        old.unlink()
    files.sync(where)


def newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints in a run folder."""
    return layout.numbered(folder / layout.CHECKPOINTS, SUFFIX)[::-1]


def load(path: Path, run_id: str, device: torch.device) -> tuple[Mark, Extent]:
    """Read a checkpoint; tensors go where the parameters now live, if they lay with them before.

    Raises:
        Damaged: it is torn, or belongs to another run.
        StoreError: it is sound, but there is no memory for it, or the device fails.
        OSError: the disk does not give it.
    """
    data = path.read_bytes()
    _check_sound(data)
    try:
        return _read(data, int(path.stem), run_id, device)
    except FOREIGN as error:
        raise Damaged(_first_line(error)) from None
    except (MemoryError, RuntimeError, OSError) as error:
        raise StoreError(
            f"checkpoint {path} is sound but could not be loaded ({_first_line(error)}). Nothing was changed. "
            "Free memory or choose another device, then --resume goes on from it."
        ) from error


def _check_sound(data: bytes) -> None:
    """Refuse an archive whose checksums do not hold, before torch guesses at what is wrong with it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            torn = archive.testzip()
            foreign = not any(name.endswith("/data.pkl") for name in archive.namelist())
    except TORN as error:
        raise Damaged(_first_line(error)) from None
    if torn is not None:
        raise Damaged(f"the checksum of {torn} does not hold")
    if foreign:
        raise Damaged("it is an archive of something else")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__


def _read(data: bytes, step: int, run_id: str, device: torch.device) -> tuple[Mark, Extent]:

    def place(storage: Any, location: str) -> Any:
        return storage if location == "cpu" or device.type == "cpu" else storage.to(device=device)

    content = torch.load(io.BytesIO(data), weights_only=True, map_location=place)
    if content["id"] != run_id or content["step"] != step:
        raise ValueError("it belongs to another run")
    state = State.from_dict(content["state"], device)
    like_w = content["state"]["w"].shape[-1:]
    memory = {
        probe: {key: _with(value, like_w, device) for key, value in kept.items()}
        for probe, kept in content["memory"].items()
    }
    return Mark(content["step"], state, memory), Extent(**content["extent"])


def _with(value: Any, like_w: torch.Size, device: torch.device) -> Any:
    """Move vectors in parameter space to the device, for a run that began on another one."""
    return value.to(device) if isinstance(value, Tensor) and value.shape[-1:] == like_w else value
