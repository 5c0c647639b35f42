"""`limen plot`: the figure of one or several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter


def register(app: App) -> None:
    """Add the command."""
    app.command(plot)


def plot(
    *runs: Annotated[str, Parameter(help="Folders of runs, overlaid.", required=True)],
    output: Annotated[
        str | None,
        Parameter(name=["--output", "-o"], help="PNG, PDF or SVG (default: curves.png in the first run)."),
    ] = None,
    x: Annotated[
        Literal["step", "time", "sharpness"] | None,
        Parameter(
            help="Abscissa: steps; time (lr x steps); or the sharpness gone through, ∫S dt. "
            "Default: time with a flow, else steps."
        ),
    ] = None,
    distance: Annotated[
        bool | None,
        Parameter(help="The panel of the distance to the flow. Default: where it is known."),
    ] = None,
) -> int:
    """Draw loss, accuracy and eigenvalues with threshold and crossing, and print the figure's path."""
    from limen import store
    from limen.plots import curves

    target = Path(output) if output is not None else Path(runs[0]) / "curves.png"
    curves([store.open_run(Path(folder)) for folder in runs], target, x=x, distance=distance)
    print(target)
    return 0
