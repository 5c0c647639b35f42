"""`limen ls`: the runs in a folder, a line each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

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
    """List runs: status, last step, training loss, sharpness over threshold, folder."""
    from limen import store

    root = Path(results or os.environ.get("RESULTS") or "results")
    if not root.is_dir():
        raise InputError(f"no folder of results at {root}; name one, or set RESULTS.")
    runs = store.find_runs(root)
    if not runs:
        print(f"no runs in {root}")
        return 0
    rows = [
        ("status", "step", "train_loss", "sharpness/threshold", "run"),
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
    step = "-" if last["step"] is None else f"{last['step']}/{run.info.get('max_steps', '?')}"
    loss = f"{last['train_loss']:.6g}" if "train_loss" in last else "-"
    return str(run.status), step, loss, over, place


def ratio(run: Run) -> str:
    """Return the last top eigenvalue over the threshold, or a dash."""
    if run.threshold is None or "eigs" not in run.names():
        return "-"
    return f"{run.series('eigs').values[-1, 0] / run.threshold:.3f}"
