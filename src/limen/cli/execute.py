"""A spec on the command line: it runs, with a progress bar, and says how it ended."""

from __future__ import annotations

import sys
from dataclasses import replace

from limen.cli.options import Execution
from limen.config import Spec
from limen.types import Status

STATUS_CODES = {Status.FINISHED: 0, Status.DIVERGED: 3, Status.INTERRUPTED: 130}


def execute(spec: Spec, execution: Execution) -> int:
    """Run a spec, record it and say how it ended."""
    from limen.cli.progress import Progress, summary
    from limen.config import build
    from limen.launch import begun, launch, rank

    built = build(spec)
    if rank() > 0:  # the first process speaks for all
        execution = replace(execution, quiet=True)
    if not execution.quiet:
        for note in built.notes:
            print(f"note: {note}", file=sys.stderr)
    before = begun(built.folder) if execution.resume else None
    experiment = built.experiment
    with Progress(experiment.steps, experiment.dynamics.threshold(), quiet=execution.quiet) as progress:
        run = launch(
            spec,
            built=built,
            resume=execution.resume,
            overwrite=execution.overwrite,
            listen=progress,
            tell=progress.tell,
        )
    if not execution.quiet:
        print(summary(run, run.notes[len(before.notes) if before is not None else 0 :]))
    elif run.status is Status.FAILED:
        print(f"limen: {run.why}", file=sys.stderr)
    return STATUS_CODES.get(run.status, 1)
