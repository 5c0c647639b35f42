"""Where downloaded data sets lie."""

from __future__ import annotations

import os
from pathlib import Path

from limen.errors import DataError


def places(data_dir: Path | str | None = None) -> list[Path]:
    """Return where to look: `data_dir` alone if given, else $DATASETS, $DATA_DIR and the user's cache."""
    if data_dir is not None:
        return [Path(data_dir).expanduser()]
    import pooch

    named = [os.environ.get(variable) for variable in ("DATASETS", "DATA_DIR")]
    return [*(Path(name).expanduser() for name in named if name), Path(pooch.os_cache("limen"))]


def find_folder(folder: str, data_dir: Path | str | None = None) -> Path | None:
    """Return the first `folder` in the places to look in (a place may be that folder itself), or None."""
    for place in places(data_dir):
        for candidate in (place / folder, place):
            if candidate.absolute().name == folder and candidate.is_dir():
                return candidate
    return None


def require_folder(family: str, folder: str, what: str, data_dir: Path | str | None = None) -> Path:
    """Return the folder of a family that has to be there.

    Args:
        family: what `limen data fetch` calls it.
        folder: its name.
        what: what is known of it, for the message: "with the four idx files".
        data_dir: where to look.

    Raises:
        DataError: there is none.
    """
    found = find_folder(folder, data_dir)
    if found is None:
        looked = ", ".join(str(place) for place in places(data_dir))
        raise DataError(
            f"{family}: expected the folder {folder} {what}, found none in {looked}. "
            f"Run `limen data fetch {family}`, or name the folder that holds it by --data_dir or $DATASETS."
        )
    return found
