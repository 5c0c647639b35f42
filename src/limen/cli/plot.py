"""`limen plot`: the figure of one or several runs, or of a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from limen.errors import InputError

if TYPE_CHECKING:
    from limen.store import Run


def register(app: App) -> None:
    """Add the command."""
    app.command(plot)


def plot(
    *runs: Annotated[
        str,
        Parameter(
            help="Folders of runs or of studies, overlaid; with --over, folders of many runs too.",
            required=True,
        ),
    ],
    output: Annotated[
        str | None,
        Parameter(
            name=["--output", "-o"],
            help="PNG, PDF or SVG (default: curves.png, or over_<words>.png, in the first folder).",
        ),
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
        Parameter(
            help="The panel of the distance to the flow; --distance=False leaves it out. Default: where it is known."
        ),
    ] = None,
    over: Annotated[
        str | None,
        Parameter(
            help="Draw a study over words of the spec: lr for the quantity against lr; lr,model.width for a heat map; "
            "seed for training curves, mean ± std over seeds.",
            metavar="WORD,…",
        ),
    ] = None,
    quantity: Annotated[
        str | None,
        Parameter(
            help="What to draw over one or two words: a column of `limen ls`, or an expression of them "
            "[default: edge, sharpness / threshold averaged over the last quarter of its measurements].",
            metavar="EXPR",
        ),
    ] = None,
    where: Annotated[
        str | None, Parameter(help='With --over, which runs: "lr > 0.1 and seed < 4".', metavar="EXPR")
    ] = None,
) -> int:
    """Draw loss, accuracy and eigenvalues with threshold and crossing, and print the figure's path."""
    if over is not None:
        return _study(runs, output, over, quantity, where, x, distance)
    for name, given in (("quantity", quantity), ("where", where)):
        if given is not None:
            raise InputError(f"{name}: it goes with --over, as in --over lr --{name} {given!r}.")
    from limen.plots import curves

    target = Path(output) if output is not None else Path(runs[0]) / "curves.png"
    curves([run for folder in runs for run in _opened(Path(folder))], target, x=x, distance=distance)
    print(target)
    return 0


def _opened(folder: Path) -> list[Run]:
    """Return the run in `folder`, or those of the study there."""
    from limen import store
    from limen.catalogue import open_runs, walk

    if walk.study(folder) is None:
        return [store.open_run(folder)]
    runs = list(open_runs(folder))
    if not runs:
        raise InputError(f"no run of the study {folder} has begun; `limen sweep status {folder}` says more.")
    return runs


def _study(
    folders: Sequence[str],
    output: str | None,
    over: str,
    quantity: str | None,
    where: str | None,
    x: Literal["step", "time", "sharpness"] | None,
    distance: bool | None,
) -> int:
    from limen.catalogue.runs import gather
    from limen.plots import study

    axes = [word.strip() for word in over.split(",")]
    curves_ = study.REPLICATES in axes
    if x == "sharpness" or distance is not None or (x is not None and not curves_):
        raise InputError(f"over {over!r}: expected no --distance, and --x step or time with seed alone.")
    if quantity is not None and curves_:
        raise InputError("quantity: it is drawn over one or two words other than seed.")
    chosen = quantity or study.EDGE
    name = "over_" + "_".join(axes) + ".png"
    target = Path(output) if output is not None else Path(folders[0]) / name
    study.over(gather(folders, where, also=[chosen]), axes, target, quantity=chosen, x=x or "step")
    print(target)
    return 0
