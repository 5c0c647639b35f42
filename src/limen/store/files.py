"""Bytes that survive a crash: files replaced as a whole, and files that only grow by whole lines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from limen.store.layout import temporary

Bytes = bytes | memoryview


def replace(path: Path, data: Bytes, *, sync: bool = True) -> None:
    """Give `path` the content `data`: a reader, or a crash, sees the old file or the new one, never a part.

    Args:
        path: the file; its folder exists.
        data: the content.
        sync: whether the content must reach the disk before the name does.

    Raises:
        OSError: the disk is full or the folder cannot be written; `path` is as it was.
    """
    new = temporary(path)
    try:
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            view, done = memoryview(data), 0
            while done < len(view):
                done += os.write(file, view[done:])
            if sync:
                os.fsync(file)
        finally:
            os.close(file)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


class Lines:
    """A text file that only grows, by whole lines.

    Lines wait in memory until `flush`. Where the disk is full, the file is cut back to its last whole line,
    and the lines that are not in it go on waiting.

    Attributes:
        total: size of the file once everything is flushed, in bytes.
    """

    def __init__(self, path: Path) -> None:
        """Open `path` to go on after its last byte."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._end = self.total = os.fstat(self._file).st_size
        self._waiting: list[tuple[int, bytes]] = []

    def add(self, step: int, line: str) -> None:
        """Let a line of `step` wait."""
        data = line.encode() + b"\n"
        self._waiting.append((step, data))
        self.total += len(data)

    def extend(self, steps: Sequence[int], lines: Sequence[str]) -> None:
        """Let many lines wait, in order, each of its step."""
        data = [line.encode() + b"\n" for line in lines]
        self._waiting.extend(zip(steps, data, strict=True))
        self.total += sum(map(len, data))

    def first_waiting(self) -> int | None:
        """Return the step of the first line that is not in the file."""
        return self._waiting[0][0] if self._waiting else None

    def flush(self) -> None:
        """Hand the waiting lines to the operating system.

        Raises:
            OSError: not all of them could be written; the file ends with a whole line.
        """
        data = b"".join(line for _, line in self._waiting)
        view, done = memoryview(data), 0
        os.lseek(self._file, self._end, os.SEEK_SET)
        try:
            while done < len(data):
                done += os.write(self._file, view[done:])
        except BaseException:
            done = data.rfind(b"\n", 0, done) + 1
            os.ftruncate(self._file, self._end + done)
            raise
        finally:
            self._end += done
            del self._waiting[: data.count(b"\n", 0, done)]

    def sync(self) -> None:
        """Bring the file to the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file; what waits is lost."""
        os.close(self._file)
