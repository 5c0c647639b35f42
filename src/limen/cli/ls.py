"""`limen ls`: the runs in a folder, a line each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from limen.config import results_root
from limen.errors import InputError, StoreError

if TYPE_CHECKING:
    from limen.store import Run


def register(app: App) -> None:
    """Add the command."""
    app.command(ls)


def ls(
    results: Annotated[
        str | None, Parameter(help="Folder of results (default: $RESULTS, else results).")
    ] = None,
) -> int:
    """List runs: status, steps done, training loss, sharpness over threshold, folder."""
    from limen import store

    root = results_root(results)
    if not root.is_dir():
        raise InputError(f"no folder of results at {root}; name one, or set RESULTS.")
    runs = store.find_runs(root)
    if not runs:
        print(f"no runs in {root}")
        return 0
    rows = [
        ("status", "steps", "train_loss", "sharpness/threshold", "run"),
        *(_row(run, root) for run in runs),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4]]))
    return 0


def _row(run: Run, root: Path) -> tuple[str, str, str, str, str]:
    place = str(run.folder.relative_to(root))
    try:
        last, over = run.summary(), ratio(run)
    except StoreError as error:
        # one run that cannot be read must not hide the others
        return str(run.status), "-", "-", "-", f"{place} ({error})"
    # A record of step s precedes update s, so a run that has not ended has done as many as its last record says.
    done = run.info.get("reached", last["step"])
    steps = "-" if done is None else f"{done}/{run.info.get('max_steps', '?')}"
    loss = f"{last['train_loss']:.6g}" if "train_loss" in last else "-"
    return str(run.status), steps, loss, over, place


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
