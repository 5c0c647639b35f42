"""The table of runs, kept in a file beside them and brought up to date at each use.

The table lives in memory. Its file is an image of it, replaced as a whole and checked by a checksum, so it is never
locked, and one that is missing, damaged or of another version is made anew. All works without it where it cannot be
written.
"""

from __future__ import annotations

import math
import os
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limen.catalogue import walk
from limen.catalogue.query import Query

if TYPE_CHECKING:
    from limen.catalogue.row import Row

FILE = ".limen-index.sqlite"
VERSION = 1
"""Of the table; another one is made anew."""

WORTH = 64
"""Runs from which on a file is kept; fewer are read at once."""

MOST = 1900
"""Columns; SQLite has at most 2,000. Words beyond are left out of the table."""

MAGIC = b"SQLite format 3\0"
CHECKSUM = slice(60, 64)
"""Where SQLite leaves a number to its user, in the head of the image."""

FIXED = ("run", "status", "why", "error", "steps", "max_steps", "step", "threshold", "started", "ended",
         "train_loss", "sharpness", "crossing", "edge")  # fmt: skip


class Catalogue:
    """The runs in a folder and below, or those of a study, as they stand now.

    Attributes:
        root: what the folders of the runs are relative to: the folder, or the results that the study is of.
        changed: how many rows were read, or dropped, to bring the index up to date.
    """

    def __init__(self, folder: Path | str) -> None:
        """Read the index, and what has changed since.

        Raises:
            StoreError: the folder is a study's, which cannot be read.
        """
        folder = Path(folder)
        study = walk.study(folder)
        self.root = folder if study is None else study[0]
        file = folder / FILE
        self._db = _load(file)
        self.changed = self._refresh(
            walk.stamps(folder) if study is None else walk.stamps_of(self.root, study[1])
        )
        if self.changed and (file.exists() or len(self) >= WORTH) and not (folder / walk.MANIFEST).exists():
            _save(self._db, file)

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM runs").fetchone()[0])

    @property
    def columns(self) -> dict[str, str]:
        """What the table has: columns, and `word`, `flag` (a word that is true or false) or `value`."""
        return dict(self._db.execute("SELECT name, kind FROM columns"))

    def select(
        self,
        columns: Sequence[str],
        *,
        where: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> list[tuple[Any, ...]]:
        """Return a row of values for each run that fits.

        Args:
            columns: columns, or expressions of them.
            where: an expression such as `lr > 0.1 and status == 'finished'`; all runs if None.
            sort: expressions with commas between, each with ` desc` behind it or not; by folder if None.
            limit: at most so many.

        Raises:
            InputError: an expression names no column, or is none.
        """
        return Query(self.columns, columns, where, sort, limit).run(self._db)

    def folders(self, where: str | None = None) -> list[Path]:
        """Return the folders of the runs that fit, sorted."""
        return [self.root / run for (run,) in self.select(["run"], where=where)]

    def table(self, where: str | None = None, also: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return what is known of each run that fits, by column, and the expressions `also`; None is for nothing."""
        columns = self.columns
        rows = self.select([*(f'"{name}"' for name in columns), *also], where=where)
        flags = [name for name, kind in columns.items() if kind == "flag"]
        found = [dict(zip((*columns, *also), row, strict=True)) for row in rows]
        for row in found:
            row |= {name: bool(row[name]) for name in flags if row[name] in (0, 1)}
        return found

    def _refresh(self, now: Mapping[str, str]) -> int:
        known = {run: (stamp, running) for run, stamp, running in self._db.execute(
            "SELECT run, stamp, running FROM stamps")}  # fmt: skip
        gone = [(run,) for run in known.keys() - now.keys()]
        changed = [run for run, stamp in now.items() if known.get(run, ("",))[0] != stamp]
        changed += self._woken(
            [run for run, (stamp, running) in known.items() if running and now.get(run) == stamp]
        )
        for table in ("runs", "stamps"):
            self._db.executemany(f"DELETE FROM {table} WHERE run = ?", gone)
        if changed:
            self._read({run: now[run] for run in changed})
        self._db.commit()
        return len(gone) + len(changed)

    def _woken(self, runs: Sequence[str]) -> list[str]:
        """Return those of unchanged files that say `running` whose lock says another thing than their row."""
        if not runs:
            return []
        from limen.store import lock  # numpy comes with the store

        rows = dict(self._db.execute("SELECT run, status FROM runs"))
        return [run for run in runs if lock.held(self.root / run) != (rows.get(run) == "running")]

    def _read(self, changed: Mapping[str, str]) -> None:
        from limen.catalogue.row import read  # numpy comes with it, and most of the time nothing has changed

        rows = {run: read(self.root / run) for run in changed}
        self._add_columns(rows.values())
        names = list(self.columns)
        slots = ", ".join("?" * len(names))
        quoted = ", ".join(f'"{name}"' for name in names)
        self._db.executemany(
            f"INSERT OR REPLACE INTO runs ({quoted}) VALUES ({slots})",
            (_cells({**row.values, "run": run}, names) for run, row in rows.items()),
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO stamps VALUES (?, ?, ?)",
            ((run, changed[run], int(row.running)) for run, row in rows.items()),
        )

    def _add_columns(self, rows: Iterable[Row]) -> None:
        known = {name.lower() for name in self.columns}
        for row in rows:
            for name, value in row.values.items():
                if name.lower() in known or not _fit(name) or len(known) >= MOST:
                    continue
                kind = "value" if name not in row.words else "flag" if isinstance(value, bool) else "word"
                _add(self._db, name, kind)
                known.add(name.lower())


def _fit(name: str) -> bool:
    return name.isprintable() and '"' not in name and 0 < len(name) <= 200


def _add(db: sqlite3.Connection, name: str, kind: str) -> None:
    db.execute(f'ALTER TABLE runs ADD COLUMN "{name}"')
    db.execute("INSERT INTO columns VALUES (?, ?)", (name, kind))


def _cells(values: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    lower = {name.lower(): value for name, value in values.items()}  # as SQLite reads names
    return [_cell(lower.get(name.lower())) for name in names]


def _cell(value: Any) -> Any:
    """Return what SQLite can hold: whole numbers to 64 bits, no nan."""
    match value:
        case float() if math.isnan(value):
            return None
        case int() if not -(2**63) <= value < 2**63:
            return str(value)
    return value


def _load(file: Path) -> sqlite3.Connection:
    """Return the table that `file` holds, or an empty one."""
    db = sqlite3.connect(":memory:")
    try:
        image = file.read_bytes()
        if image.startswith(MAGIC) and int.from_bytes(image[CHECKSUM], "big") == _checksum(image):
            db.deserialize(image)
            if db.execute("PRAGMA application_id").fetchone() == (VERSION,):
                return db
    except (OSError, sqlite3.Error):
        pass  # the index is never the truth: what is no index is made anew
    db.close()
    db = sqlite3.connect(":memory:")
    db.execute(f"PRAGMA application_id = {VERSION}")
    db.execute("CREATE TABLE runs (run PRIMARY KEY)")
    db.execute("CREATE TABLE stamps (run PRIMARY KEY, stamp, running)")
    db.execute("CREATE TABLE columns (name, kind)")
    db.execute("INSERT INTO columns VALUES ('run', 'value')")
    for name in FIXED[1:]:
        _add(db, name, "value")
    return db


def _save(db: sqlite3.Connection, file: Path) -> None:
    """Replace `file` by an image of the table, if that can be done."""
    image = bytearray(db.serialize())
    image[CHECKSUM] = _checksum(image).to_bytes(4, "big")
    new = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        try:
            new.write_bytes(image)
            new.replace(file)
        finally:
            new.unlink(missing_ok=True)
    except OSError:
        return  # a folder that cannot be written is read all the same


def _checksum(image: bytes | bytearray) -> int:
    view = memoryview(image)
    return zlib.crc32(view[CHECKSUM.stop :], zlib.crc32(view[: CHECKSUM.start]))
