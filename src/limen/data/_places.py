"""Where downloaded data sets lie."""

from __future__ import annotations

import os
from pathlib import Path


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
