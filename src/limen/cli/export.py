"""`limen export`: runs in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter


def register(app: App) -> None:
    """Add the command."""
    app.command(export)


def export(
    *runs: Annotated[str, Parameter(help="Folders of runs, of many runs, or of studies.", required=True)],
    to: Annotated[Literal["npz", "csv", "parquet", "netcdf", "torch"], Parameter(help="Which format.")],
    output: Annotated[
        str | None,
        Parameter(name=["--output", "-o"], help="The file (default: export.<suffix> in the first folder)."),
    ] = None,
    where: Annotated[
        str | None, Parameter(help="Which runs: \"lr > 0.1 and status == 'finished'\".", metavar="EXPR")
    ] = None,
    names: Annotated[
        str | None, Parameter(help="Which quantities, with commas between (default: all).", metavar="NAME,…")
    ] = None,
    overwrite: Annotated[bool, Parameter(help="Replace a file that is there.")] = False,
) -> int:
    """Write the records of runs to one file, and print its path."""
    from limen.catalogue.export import FORMATS
    from limen.catalogue.export import export as write
    from limen.catalogue.runs import gather

    target = Path(output) if output is not None else Path(runs[0]) / f"export.{FORMATS[to].suffix}"
    chosen = [name.strip() for name in names.split(",")] if names is not None else []
    write(gather(runs, where), to, target, chosen, overwrite=overwrite)
    print(target)
    return 0
