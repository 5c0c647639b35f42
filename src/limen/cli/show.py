"""`limen show`: one run, its words, its figures and its files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from limen.cli.ls import ratio


def register(app: App) -> None:
    """Add the command."""
    app.command(show)


def show(run: Annotated[str, Parameter(help="Folder of the run.")]) -> int:
    """Say what a run is, how it stands, and what it has recorded."""
    from limen import store

    opened = store.open_run(Path(run))
    print(opened.folder)
    print(f"status      {opened.status}: {opened.why}")
    for note in opened.notes:
        print(f"note        {note}")
    _table("spec", {key: value for key, value in opened.spec.items() if value not in (None, {})})
    about: dict[str, object] = {
        key: opened.info[key]
        for key in ("threshold", "device", "matmul", "ensemble", "versions")
        if opened.info.get(key) is not None
    }
    _table("ran with", about)
    records = {}
    for name in opened.names():
        series = opened.series(name)
        last = " ".join(f"{float(x):.6g}" for x in series.values[-1:].reshape(-1)[:5])
        records[name] = f"{len(series.steps)} records, last at step {series.steps[-1]}: {last}"
    _table("records", records)
    print(f"sharpness / threshold: {ratio(opened)}")
    return 0


def _table(title: str, rows: Mapping[str, object]) -> None:
    if rows:
        print(title)
    width = max((len(key) for key in rows), default=0)
    for key, value in rows.items():
        print(f"  {key.ljust(width)}  {value}")
