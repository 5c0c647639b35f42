"""`limen ls`: the runs in a folder, a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from limen.config import results_root
from limen.errors import InputError

if TYPE_CHECKING:
    from limen.store import Run

USUAL = ("status", "steps", "train_loss", "sharpness/threshold", "run")
READ = ("status", "steps", "max_steps", "train_loss", "sharpness", "threshold", "run", "error")
"""What the usual columns are made of."""


def register(app: App) -> None:
    """Add the command."""
    app.command(ls)


def ls(
    results: Annotated[
        str | None, Parameter(help="Folder of results, or of a study (default: $RESULTS, else results).")
    ] = None,
    *,
    where: Annotated[
        str | None, Parameter(help="Which runs: \"lr > 0.1 and status == 'finished'\".", metavar="EXPR")
    ] = None,
    columns: Annotated[
        str | None,
        Parameter(help='What to say of each, with commas between: "lr, seed, edge, run".', metavar="EXPR,…"),
    ] = None,
    sort: Annotated[
        str | None, Parameter(help='In which order: "train_loss", or "lr desc, seed".', metavar="EXPR,…")
    ] = None,
    limit: Annotated[str | None, Parameter(help="At most so many lines.", metavar="INT")] = None,
) -> int:
    """List runs: status, steps done, training loss, sharpness over threshold, folder; or what you ask for."""
    from limen.catalogue.index import Catalogue
    from limen.catalogue.query import split

    root = results_root(results)
    if not root.is_dir():
        raise InputError(f"no folder of results at {root}; name one, or set RESULTS.")
    if limit is not None and not limit.isdecimal():
        raise InputError(f"limit: expected a whole number, got {limit!r}.")
    catalogue = Catalogue(root)
    if not len(catalogue):
        print(f"no runs in {root}")
        return 0
    most = None if limit is None else int(limit)
    if columns is None:
        found = catalogue.select(READ, where=where, sort=sort, limit=most)
        rows = [USUAL, *(_usual(*row) for row in found)]
    else:
        asked = split(columns)
        found = catalogue.select(asked, where=where, sort=sort, limit=most)
        rows = [tuple(asked), *(tuple(_text(value) for value in row) for row in found)]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    line = "  ".join([*(f"{{:{width}}}" for width in widths), "{}"])
    print("\n".join(line.format(*row) for row in rows))
    return 0


def _usual(
    status: str,
    steps: int | None,
    max_steps: int | None,
    train_loss: float | None,
    sharpness: float | None,
    threshold: float | None,
    run: str,
    error: str | None,
) -> tuple[str, ...]:
    if error is not None:
        # one run that cannot be read must not hide the others
        return status, "-", "-", "-", f"{run} ({error})"
    done = "-" if steps is None else f"{steps}/{'?' if max_steps is None else max_steps}"
    loss = "-" if train_loss is None else f"{train_loss:.6g}"
    over = "-" if sharpness is None or not threshold else f"{sharpness / threshold:.3f}"
    return status, done, loss, over, run


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.6g}"
    return str(value)


def ratio(run: Run) -> str:
    """Return the last top eigenvalue over the threshold, or a dash."""
    sharpness = top(run)
    return "-" if sharpness is None or not run.threshold else f"{sharpness / run.threshold:.3f}"


def top(run: Run) -> float | None:
    """Return the last top eigenvalue, None where none was recorded."""
    if "eigs" not in run.names():
        return None
    last = run.series("eigs").values[-1:].reshape(-1)
    return float(last[0]) if len(last) else None
