"""What data sets there are, where their files lie, and how to get those that are not here."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from limen import registry
from limen.data._places import find_folder, places
from limen.errors import DataError, InputError


@dataclass(frozen=True)
class Entry:
    """A family of data sets, for a list.

    Attributes:
        name: of the family.
        names: ids to show.
        summary: one line.
        where: the folder that was found, `embedded` for data that need no files, or `not here` and what to
            do.
    """

    name: str
    names: tuple[str, ...]
    summary: str
    where: str


def catalogue(data_dir: Path | str | None = None) -> list[Entry]:
    """Return every family of data sets and where its files are; folders are looked for, not read.

    Args:
        data_dir: where to look, by default $DATASETS, $DATA_DIR and the user's cache.
    """
    entries = []
    for family in registry.families("data"):
        module = importlib.import_module(family.module)
        source, extra = _source(module), vars(module).get("EXTRA")
        where = "embedded"
        if extra is not None and importlib.util.find_spec(extra["package"]) is None:
            where = f"not here; pip install 'limen[{extra['extra']}]'"
        if source is not None:
            found = find_folder(source["folder"], data_dir)
            where = str(found) if found else f"not here; limen data fetch {_id(family)}"
        entries.append(Entry(family.stem, family.names, family.summary, where))
    return entries


def fetch(name: str, data_dir: Path | str | None = None) -> Path:
    """Download the files of a data set unless sound ones are here already, and return their folder.

    A folder that is there and damaged is kept under another name.

    Args:
        name: of a family or of one of its data sets (`cifar10`, `cifar10-5k`).
        data_dir: where to put them, by default $DATASETS, else $DATA_DIR, else the user's cache.

    Raises:
        InputError: there is no such data set, or it needs no files.
        DataError: the download failed, or is not what was expected.
    """
    family, _ = registry.find("data", name)
    module = importlib.import_module(family.module)
    source = _source(module)
    if source is None:
        known = [
            _id(entry)
            for entry in registry.families("data")
            if _source(importlib.import_module(entry.module))
        ]
        raise InputError(
            f"data set {name!r} needs no files: use it as it is. To be fetched there are: {', '.join(known)}."
        )
    found = find_folder(source["folder"], data_dir)
    if found is not None:
        try:
            module.check(found)
        except DataError:
            _set_aside(found)
        else:
            return found
    from limen.data import _download

    folder = _target(source["folder"], data_dir, found)
    if "files" in source:
        _download.install_files(source["url"], source["files"], folder)
    else:
        _download.install(source["url"], source["checksum"], folder)
    module.check(folder)
    return folder


def _id(family: registry.Family) -> str:
    """Return the shortest id of a family, its stem where that is one."""
    return family.stem if re.fullmatch(family.pattern, family.stem) else min(family.names, key=len)


def _source(module: ModuleType) -> Mapping[str, Any] | None:
    """Return the literal a family exports if its files can be downloaded: url, folder, checksum or files."""
    return vars(module).get("SOURCE")


def _target(folder: str, data_dir: Path | str | None, found: Path | None) -> Path:
    if found is not None:
        return found
    place = places(data_dir)[0]
    return place if place.absolute().name == folder else place / folder


def _set_aside(folder: Path) -> None:
    for k in range(1, 1000):
        aside = folder.with_name(f"{folder.name}.damaged-{k}")
        if not aside.exists():
            break
    try:
        folder.rename(aside)
    except OSError as error:
        raise DataError(
            f"{folder}: expected to set this damaged folder aside as {aside.name}, "
            f"but {error.strerror or error}. "
            "Move it away, or choose another folder by --data_dir."
        ) from None
