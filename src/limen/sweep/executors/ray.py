"""A Ray cluster: the one at an address, or one on this machine for as long as the sweep lasts."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from limen.errors import InputError
from limen.sweep.executors import Executor, died
from limen.sweep.work import Job, Outcome, perform


class Ray(Executor):
    """Tasks of a Ray cluster; the driver counts the attempts, so Ray itself retries none."""

    def __init__(
        self, workers: int | None, threads: int, options: Mapping[str, str], *, gpus: bool = True
    ) -> None:
        """Join or start a cluster.

        Args:
            workers: tasks at a time; None for as many as the cluster's cores allow.
            threads: cores of a task.
            options: `address` of a cluster; without it one is started here.
            gpus: whether tasks want a GPU each where the cluster has some.

        Raises:
            InputError: the cluster cannot be reached.
        """
        if unknown := options.keys() - {"address"}:
            raise InputError(f"--ray: expected address, got {', '.join(sorted(unknown))}.")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray: Any = importlib.import_module("ray")  # an extra, its types incomplete

        address = options.get("address")
        here: dict[str, Any] = {"include_dashboard": False}
        if workers is not None:
            here["num_cpus"] = workers * threads
        try:
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **(here if address is None else {}),
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(
                f"--ray.address {address}: {' '.join(str(error).split())} Start a cluster there, or leave it out."
            ) from None
        has = ray.cluster_resources()
        self.slots = workers or max(1, int(has.get("CPU", 1)) // threads)
        gpu = 1 if gpus and has.get("GPU", 0) else 0
        self._ray = ray
        self._perform = ray.remote(num_cpus=threads, num_gpus=gpu, max_retries=0)(perform)
        self.told = f"Ray ({address or 'local'}), up to {self.slots} tasks at a time"
        self._running: dict[Any, Job] = {}

    def submit(self, jobs: Sequence[Job]) -> None:
        """Hand the jobs to the cluster."""
        for job in jobs:
            self._running[self._perform.remote(job)] = job

    def wait(self, seconds: float) -> list[tuple[Job, list[Outcome]]]:
        """Return the jobs that have ended."""
        if not self._running:
            return []
        over, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._result(reference) for reference in over]

    def _result(self, reference: Any) -> tuple[Job, list[Outcome]]:
        job = self._running.pop(reference)
        try:
            return job, self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            # `perform` does not raise, so this is the cluster's: a worker or a node died, or memory ran out
            return died(job, (str(error).strip().splitlines() or [type(error).__name__])[0][:200])

    def kill(self) -> None:
        """End every task at once."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leave the cluster; one started here ends."""
        self._running = {}
        self._ray.shutdown()
