"""Slurm by way of submitit: an array of jobs, a task each."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limen.errors import InputError
from limen.sweep.executors import Executor, died
from limen.sweep.work import Job, Outcome, perform

SHARED = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
"""Options that submitit takes as they are; it takes Slurm's own with `slurm_` before them."""

QUEUE = 1000
"""Jobs in the queue at a time; many a cluster refuses longer arrays."""

HOUR = 60
"""Minutes that a job has; submitit's own default is 5."""

PAUSE = 0.2


class Slurm(Executor):
    """Jobs of a Slurm cluster, or with `cluster: local` processes here, for trials."""

    def __init__(self, logs: Path, workers: int | None, threads: int, options: Mapping[str, str]) -> None:
        """Take the folder of submitit's logs, how many jobs may run at a time, and options of the jobs.

        Raises:
            InputError: Slurm is missing, or an option is unknown.
        """
        submitit: Any = importlib.import_module("submitit")  # an extra

        given = dict(options)
        cluster = given.pop("cluster", "slurm")
        try:
            self._engine = submitit.AutoExecutor(folder=logs, cluster=cluster)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"--executor slurm: {error}. Run it where sbatch is, or try it with --slurm.cluster local."
            ) from None
        here = cluster != "slurm"
        words = {(key if key in SHARED else f"slurm_{key}"): _number(value) for key, value in given.items()}
        words = {"name": "limen", "cpus_per_task": threads, "timeout_min": HOUR} | words
        if workers is not None and not here:
            words["slurm_array_parallelism"] = workers
        try:
            self._engine.update_parameters(**words)
        except (NameError, TypeError, ValueError, AssertionError) as error:
            raise InputError(f"--slurm: {' '.join(str(error).split())}") from None
        self.slots = (workers or 2) if here else QUEUE
        self.told = f"Slurm ({cluster}), up to {workers or self.slots} jobs at a time"
        self._running: list[tuple[Any, Job]] = []

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs as one array."""
        with self._engine.batch():
            submitted = [self._engine.submit(perform, job) for job in jobs]
        self._running += zip(submitted, jobs, strict=True)

    def wait(self, seconds: float) -> list[tuple[Job, list[Outcome]]]:
        """Return the jobs that have ended."""
        until = time.monotonic() + seconds
        while not (over := [pair for pair in self._running if pair[0].done()]) and time.monotonic() < until:
            time.sleep(PAUSE)
        self._running = [pair for pair in self._running if pair not in over]
        return [_result(ticket, job) for ticket, job in over]

    def kill(self) -> None:
        """Cancel every job."""
        for ticket, _ in self._running:
            ticket.cancel(check=False)

    def close(self) -> None:
        """Leave the queue."""
        self._running = []


def _result(ticket: Any, job: Job) -> tuple[Job, list[Outcome]]:
    # `perform` does not raise, so an exception is the engine's: the job was killed, or ran out of time or memory
    error = ticket.exception()
    if error is None:
        return job, ticket.result()
    said = " ".join(str(error).split())
    return died(job, f"job {ticket.job_id} ended without a result ({ticket.state}): {said[:200]}")


def _number(text: str) -> Any:
    return int(text) if text.isdecimal() else text
