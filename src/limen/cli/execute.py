"""From a spec to a run folder: what the commands that train by the full batch do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from limen.cli.options import Execution
from limen.config import Spec
from limen.types import Status

if TYPE_CHECKING:
    import torch

    from limen.store import Run

STATUS_CODES = {Status.FINISHED: 0, Status.DIVERGED: 3, Status.INTERRUPTED: 130}


def execute(spec: Spec, execution: Execution) -> int:
    """Run a spec, record it and say how it ended."""
    from limen import store
    from limen.cli import git
    from limen.cli.progress import Progress, summary
    from limen.config import build

    built = build(spec)
    if not execution.quiet:
        for note in built.notes:
            print(f"note: {note}", file=sys.stderr)
    before = _begun(built.folder) if execution.resume else None
    device = built.experiment.objective.device
    matmul = _matmul(before, device)
    if device.type == "cuda":
        from limen.linalg.matmul import use_deterministic_kernels

        use_deterministic_kernels()
    info = built.info | {"matmul": matmul, "git": git.state()}
    with Progress(spec.steps(), built.experiment.dynamics.threshold(), quiet=execution.quiet) as progress:
        run = store.record(
            built.folder,
            built.experiment,
            spec=spec.to_dict(),
            info=info,
            resume=execution.resume,
            overwrite=execution.overwrite,
            checkpoint_freq=spec.checkpoint_freq,
            save_freq=spec.save_freq,
            save_model=spec.save_model,
            listen=progress,
            tell=progress.tell,
        )
    if not execution.quiet:
        print(summary(run, run.notes[len(before.notes) if before is not None else 0 :]))
    return STATUS_CODES.get(run.status, 1)


def _begun(folder: Path) -> Run | None:
    """Return the run that is to go on; None where there is none, of which `record` speaks where it matters."""
    from limen import store
    from limen.errors import StoreError

    try:
        return store.open_run(folder)
    except StoreError:
        return None


def _matmul(before: Run | None, device: torch.device) -> str:
    """Set the matmul mode: the one the run was begun with, or the fastest accurate one."""
    from limen.linalg.matmul import choose_matmul_mode, set_matmul_mode

    begun_with = before.info.get("matmul") if before is not None else None
    return choose_matmul_mode(device) if begun_with is None else set_matmul_mode(begun_with)
