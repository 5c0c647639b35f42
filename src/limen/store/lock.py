"""One writer a folder. The lock is the operating system's, so a dead process holds nothing."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import filelock

from limen.errors import StoreError
from limen.store.layout import LOCK, WRITER

PATIENCE = 0.5
"""Seconds to try: a reader that asks `held` takes the lock for an instant."""


class BusyError(StoreError):
    """Another process writes to the folder."""


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`.

    Raises:
        BusyError: another process holds it.
        OSError: the folder cannot be written.
    """
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=PATIENCE, poll_interval=0.05)
    except filelock.Timeout:
        raise BusyError(
            f"{folder} is being written by {holder(folder)}; a run has one writer. "
            "Wait for it, stop it, or choose another folder."
        ) from None
    writer = folder / WRITER
    try:
        writer.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
        yield
    finally:
        writer.unlink(missing_ok=True)
        lock.release()


def holder(folder: Path) -> str:
    """Return in words which process holds the lock of `folder`."""
    try:
        who = json.loads((folder / WRITER).read_text(encoding="utf-8"))
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


if sys.platform == "win32":

    def held(folder: Path) -> bool:
        """Whether a living process writes to `folder`."""
        if not (folder / LOCK).exists():
            return False
        try:
            with filelock.FileLock(folder / LOCK, timeout=0):
                return False
        except filelock.Timeout:
            return True

else:
    import fcntl

    def held(folder: Path) -> bool:
        """Whether a living process writes to `folder`; where that cannot be told, it is taken to."""
        try:
            file = os.open(folder / LOCK, os.O_RDONLY)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
            # Shared, so that readers do not meet each other; and no write permission is needed.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(file)
        return False
