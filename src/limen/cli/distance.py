"""`limen distance`: how far descent has departed from the gradient flow."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from limen.analysis import Apart, Array, Crossing
    from limen.store import Run

ROWS = 10
"""Of the table, and one more for the last time."""


def register(app: App) -> None:
    """Add the command."""
    app.command(distance)


def distance(
    run: Annotated[str, Parameter(help="Folder of a descent; or of a run with --track_flow or --certify.")],
    flow: Annotated[
        str | None, Parameter(help="Folder of its flow, both with --nproj and --iterate_freq.")
    ] = None,
    *,
    output: Annotated[
        str | None,
        Parameter(name=["--output", "-o"], help="PNG, PDF or SVG (default: distance.png in the first run)."),
    ] = None,
    json_file: Annotated[
        str | None, Parameter(name="--json", help="Write all numbers to this file as well.")
    ] = None,
) -> int:
    """Print and draw the distance ‖w − w'‖ of descent from its gradient flow at equal times.

    With two runs it is estimated from their projected iterates, with the error that the projection implies. With one
    run made by gd --track_flow it is exact; with one made by flow --certify it is the estimate of the flow's own error.
    """
    from limen import analysis, store
    from limen.plots import departure

    first = store.open_run(Path(run))
    second = None if flow is None else store.open_run(Path(flow))
    main = first if second is None else analysis.descent_first(first, second)[0]
    apart = analysis.apart(first, second)
    crossing = analysis.crossing(main)
    target = Path(output) if output is not None else Path(run) / "distance.png"
    departure(apart, main, target)
    if json_file is not None:
        _write(
            Path(json_file), _numbers(apart, crossing, [one for one in (first, second) if one is not None])
        )
    print("\n".join([*_table(apart), _error(apart), *_crossed(apart, crossing, main), str(target)]))
    return 0


def _table(apart: Apart) -> list[str]:
    """Return some ten lines, evenly spaced, the last time among them."""
    exact = not apart.projections
    head = ["time", "step", "distance", *([] if exact else ["95 % band"]), "/ displacement"]
    head += ["outputs"] if apart.outputs is not None else []
    head += ["loss gap"]
    rows = [head]
    last = len(apart.t) - 1
    for index in sorted({round(i * last / ROWS) for i in range(ROWS + 1)}):
        row = [f"{apart.t[index]:.6g}", str(apart.steps[index]), f"{apart.distance[index]:.4g}"]
        row += [] if exact else [f"{apart.low[index]:.4g} – {apart.high[index]:.4g}"]
        row += [_percent(apart, index)]
        row += [f"{apart.outputs[index]:.4g}"] if apart.outputs is not None else []
        row += [_or_dash(apart.loss_gap[index], ".3g")]
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _percent(apart: Apart, index: int) -> str:
    return _or_dash(100 * apart.relative[index], ".3g", " %")


def _or_dash(value: float, form: str, unit: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{form}}{unit}"


def _error(apart: Apart) -> str:
    if not apart.projections:
        if apart.reference == "flow":
            return "exact: both trajectories were computed in one run."
        return f"the distance to the {apart.reference} estimates the error of this flow."
    said = (
        f"estimated from {apart.projections} random projections: the relative standard error is "
        f"{100 * apart.error:.2g} %, the same projections at all times."
    )
    lost = (apart.t > 0) & (apart.distance < apart.rounding)
    if not lost.any():
        return said
    return f"{said} {lost.sum()} of {len(lost)} distances are rounding, all below {apart.rounding[lost].max():.2g}."


def _crossed(apart: Apart, crossing: Crossing | None, run: Run) -> list[str]:
    end = f"at the end (time {apart.t[-1]:.6g}) {_far(apart, -1)}"
    if run.threshold is None:
        return [f"distance {end}."]
    if crossing is None:
        known = "the sharpness was not measured" if "eigs" not in run.names() else "never"
        return [f"crossed the threshold {run.threshold:.6g}: {known}; distance {end}."]
    index = apart.last_until(crossing.t)
    at = "then" if math.isclose(apart.t[index], crossing.t, rel_tol=1e-9) else f"at time {apart.t[index]:.6g}"
    return [
        f"crossed the threshold {run.threshold:.6g} at step {crossing.step} (time {crossing.t:.6g}, sharpness "
        f"{crossing.sharpness:.6g}); distance {at} {_far(apart, index)}, {end}."
    ]


def _far(apart: Apart, index: int) -> str:
    if math.isnan(apart.relative[index]):
        return f"{apart.distance[index]:.4g}"
    return f"{apart.distance[index]:.4g} = {_percent(apart, index)} of the displacement"


def _numbers(apart: Apart, crossing: Crossing | None, runs: list[Run]) -> dict[str, Any]:
    """Return all that is known as plain numbers; what is not finite is null."""

    def plain(values: Array | None) -> list[float | None] | None:
        return None if values is None else [float(x) if math.isfinite(x) else None for x in values]

    columns = {
        name: getattr(apart, name) for name in ("t", "distance", "low", "high", "displacement", "relative")
    }
    columns |= {"loss_gap": apart.loss_gap, "outputs": apart.outputs, "path": apart.path}
    columns |= {"rounding": apart.rounding}
    return {
        "runs": [str(run.folder) for run in runs],
        "reference": apart.reference,
        "exact": not apart.projections,
        "projections": apart.projections,
        "relative_standard_error": apart.error,
        "crossing": None if crossing is None else vars(crossing),
        "step": apart.steps.tolist(),
        **{name: plain(values) for name, values in columns.items()},
    }


def _write(path: Path, numbers: dict[str, Any]) -> None:
    from limen.errors import StoreError
    from limen.store import files

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, json.dumps(numbers, indent=1, allow_nan=False).encode() + b"\n")
    except OSError as error:
        raise StoreError(
            f"cannot write {str(path)!r}: {error.strerror or error}. Name a file in a folder you may write to."
        ) from error
