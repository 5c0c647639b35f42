"""Download files so that an interruption costs nothing, check them, set them up whole or not at all."""

from __future__ import annotations

import gzip
import logging
import re
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pooch
import requests
import urllib3
from tqdm import tqdm

from limen.errors import DataError

ATTEMPTS = 5  # in a row without a byte gained
PAUSE = 0.5  # seconds, growing with each such attempt
TIMEOUT = (10, 60)  # seconds to connect, and between two bytes
BLOCK = 1 << 18


def install(url: str, checksum: str, folder: Path) -> Path:
    """Download the archive `url` (tar or zip), check it, and unpack it to `folder`, the name of its top folder.

    What arrived of an interrupted download stays beside `folder` and is continued by the next call. `folder`
    appears complete or not at all. Two calls at once take turns.

    Args:
        url: http(s) address.
        checksum: as "md5:…" or "sha256:…".
        folder: the target, which does not exist yet.

    Raises:
        DataError: the server cannot be reached, the file is not the expected one, or the disk refuses.
    """
    with _turn(url, folder) as wanted:
        if wanted:
            archive = _retrieve(url, checksum, folder.parent, f"unpack it in {folder.parent}")
            _unpack(archive, folder)
            archive.unlink()
    return folder


def install_files(url: str, files: Mapping[str, str], folder: Path) -> Path:
    """Download single files below the address `url`, check each, and put them in `folder`.

    What arrived of an interrupted download stays in a hidden folder beside `folder` and is continued by the
    next call. `folder` appears complete or not at all. Two calls at once take turns.

    Args:
        url: http(s) address that ends in a slash.
        files: paths in `folder`, with checksums as "md5:…" or "sha256:…"; the address has their last names.
        folder: the target, which does not exist yet.

    Raises:
        DataError: the server cannot be reached, a file is not the expected one, or the disk refuses.
    """
    with _turn(url, folder) as wanted:
        if wanted:
            partial = folder.with_name(f".{folder.name}.partial")
            for path, checksum in files.items():
                place = partial / path
                place.parent.mkdir(parents=True, exist_ok=True)
                _retrieve(url + place.name, checksum, place.parent, f"put it at {folder / path}")
            partial.rename(folder)
    return folder


@contextmanager
def _turn(url: str, folder: Path) -> Iterator[bool]:
    """Wait for other calls that set up `folder`; yield whether it is still wanted."""
    home = folder.parent
    try:
        home.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(home / f".{folder.name}.lock"):
            yield not folder.is_dir()
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"{home}: expected a folder to download {url} to, but: {reason}. "
            "Make room or choose another one by --data_dir; what has arrived is kept."
        ) from error


def _retrieve(url: str, checksum: str, home: Path, by_hand: str) -> Path:
    by_hand = f"Or download it by other means and {by_hand}."
    name = url.rsplit("/", 1)[-1]
    downloader = Resumable(home / f"{name}.part", by_hand)
    try:
        with _quiet():
            return Path(pooch.retrieve(url, checksum, fname=name, path=home, downloader=downloader))
    except ValueError as error:  # what pooch raises for a wrong checksum
        raise DataError(
            f"{url}: expected a file with {checksum}, got another one; it was discarded ({error}). "
            f"Try again later, the server may have sent an error page. {by_hand}"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    logger: logging.Logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class Resumable:
    """A downloader for pooch that keeps what arrived in `part` and asks the server only for the rest."""

    def __init__(self, part: Path, by_hand: str) -> None:
        self.part, self.by_hand = part, by_hand

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download `url` to `output_file`.

        Raises:
            DataError: the server refuses, or breaks off again and again.
        """
        idle, problem = 0, ""
        while idle < ATTEMPTS:
            before = self._size()
            try:
                if self._receive(url):
                    self.part.replace(output_file)
                    return
                problem = "the connection was closed early"
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                problem = _root(error)
            idle = 0 if self._size() > before else idle + 1
            time.sleep(PAUSE * idle)
        raise DataError(
            f"{url}: expected a complete download, got {self._size()} bytes and then: {problem}. "
            f"Run the same command again, it goes on from there. {self.by_hand}"
        )

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _receive(self, url: str) -> bool:
        """Append what the server sends; return whether the file is complete now."""
        have = self._size()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            start, total = _extent(response, have)
            if response.status_code == 416:  # nothing lies beyond what we have
                if total == have:
                    return True
                self.part.unlink(missing_ok=True)
                return False
            if response.status_code not in (200, 206) or start > have:
                raise DataError(
                    f"{url}: expected the file, but "
                    f"the server answered {response.status_code} {response.reason}. "
                    f"Try again later. {self.by_hand}"
                )
            with (
                self.part.open("r+b" if have else "wb") as file,
                tqdm(
                    total=total,
                    initial=start,
                    unit="B",
                    unit_scale=True,
                    desc=self.part.stem,
                    disable=not _terminal(),
                ) as bar,
            ):
                file.truncate(start)
                file.seek(start)
                for block in response.raw.stream(BLOCK, decode_content=False):
                    file.write(block)
                    bar.update(len(block))
                return total is None or file.tell() == total


def _extent(response: requests.Response, have: int) -> tuple[int, int | None]:
    """Return where the answer starts in the file and how long the file is, as far as the server says."""
    span = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
    if response.status_code in (206, 416) and span:
        start, total = span.groups()
        return int(start or have), None if total == "*" else int(total)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _terminal() -> bool:
    return sys.stderr.isatty()


def _root(error: BaseException) -> str:
    """Return what the system said, from below the layers that wrapped it."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return (str(error) or type(error).__name__)[:200]


BROKEN = (
    tarfile.TarError,
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
)
"""What a damaged or foreign archive can raise; the last two are a zip's, for compression and encryption."""


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack beside `folder`, then rename: it is there whole or not at all."""
    zipped = archive.suffix == ".zip"
    expected = f"a {'zip' if zipped else 'tar'} archive holding the folder {folder.name}"
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        try:
            if zipped:
                with zipfile.ZipFile(archive) as package:
                    package.extractall(temporary)  # drops what leads outside; links become plain files
            else:
                with tarfile.open(archive) as tar:
                    tar.extractall(temporary, filter="data")  # refuses links and paths that lead outside
        except BROKEN as error:
            raise DataError(
                f"{archive}: expected {expected}, got: {error}. Delete it and fetch again."
            ) from None
        unpacked = Path(temporary) / folder.name
        if not unpacked.is_dir():
            found = ", ".join(sorted(path.name for path in Path(temporary).iterdir())) or "nothing"
            raise DataError(f"{archive}: expected {expected}, got {found}. Delete it and fetch again.")
        unpacked.rename(folder)
