"""`limen data`: list the data sets, fetch those that need files."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

DATA_DIR = Parameter(help="Folder of data sets (default: $DATASETS, $DATA_DIR, else a cache).")


def register(app: App) -> None:
    """Add the command and its subcommand."""
    group = App(name="data", help="List the data sets, or fetch one: limen data fetch cifar10.")
    group.default(catalogue)
    group.command(fetch)
    app.command(group)


def catalogue(*, data_dir: Annotated[str | None, DATA_DIR] = None) -> int:
    """List the data sets: names, what they are, where their files are."""
    from limen.data import _fetch

    entries = _fetch.catalogue(data_dir)
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        print(f"{entry.name.ljust(width)}  {entry.summary}")
        print(f"{' ' * width}  ids: {', '.join(entry.names)}")
        print(f"{' ' * width}  files: {entry.where}")
    return 0


def fetch(
    *names: Annotated[str, Parameter(help="Data sets.", required=True)],
    data_dir: Annotated[str | None, DATA_DIR] = None,
) -> int:
    """Download data sets whose files are not here yet, check them, and print their folders."""
    from limen.data import _fetch

    for name in names:
        print(_fetch.fetch(name, data_dir))
    return 0
