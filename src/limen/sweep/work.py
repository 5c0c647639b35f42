"""What a worker does, wherever it is: one job, each point to its end, and what came of it."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from limen import store
from limen.config import Spec
from limen.errors import InputError, LimenError
from limen.registry.own import describe, place_of
from limen.store.lock import BusyError
from limen.sweep.study import REFUSED
from limen.types import Event, Status

BUSY, DIED = "busy", "died"
"""Another process writes to the run; the worker ended without a word."""

LOOK = 0.5
"""Seconds between two looks at whether to stop."""

ACCURATE = 2e-6
"""Relative error of a product in float32 (`linalg.matmul`)."""

VARIABLES = ("RESULTS", "EXP_DIR", "DATASETS", "DATA_DIR")
"""Of the environment, which the specs depend on."""


@dataclass(frozen=True)
class Place:
    """Where a command is typed: what relative paths and the user's own modules are looked up from.

    Attributes:
        folder: the working directory.
        variables: of the environment.
    """

    folder: str = field(default_factory=lambda: str(Path.cwd()))
    variables: Mapping[str, str] = field(
        default_factory=lambda: {name: os.environ[name] for name in VARIABLES if name in os.environ}
    )

    def enter(self) -> None:
        """Make this process stand there."""
        with contextlib.suppress(FileNotFoundError):  # another machine without it: absolute paths still serve
            os.chdir(self.folder)
        for name in VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(self.variables)


@dataclass(frozen=True)
class Job:
    """What a worker is given.

    Attributes:
        numbers: of the points; several advance together.
        specs: of the points.
        threads: of torch; they enter the rounding, so they are part of the job.
        ensemble: why several advance together: on or auto.
        matmul: mode of float32 products, alike for all points; None for the worker's own choice.
        stop: a file whose existence asks to end.
        place: to work in.
    """

    numbers: tuple[int, ...]
    specs: tuple[Spec, ...]
    threads: int
    ensemble: str
    matmul: str | None
    stop: Path
    place: Place


@dataclass(frozen=True)
class Outcome:
    """What came of a point.

    Attributes:
        number: of the point.
        status: of its run, or `refused`, `busy`, `died`.
        why: in words.
    """

    number: int
    status: str
    why: str


class Watch:
    """Listens to a run, and asks it to end at a step boundary once the study is cancelled or its driver is gone."""

    def __init__(self, stop: Path) -> None:
        self.stop = stop
        self.next = 0.0
        self.driver = (
            multiprocessing.parent_process()
        )  # None on a cluster, where jobs outlive who submitted them

    def __call__(self, event: Event) -> None:
        """Take one event of the run."""
        if (now := time.monotonic()) < self.next:
            return
        self.next = now + LOOK
        if self.over():
            self.next = float("inf")
            signal.raise_signal(signal.SIGTERM)  # which a run takes as: end at the next boundary

    def over(self) -> bool:
        """Whether nobody wants the run any more."""
        return self.stop.exists() or (self.driver is not None and not self.driver.is_alive())


def perform(job: Job) -> list[Outcome]:
    """Run the points of a job and return what came of each; whatever a point does, this does not raise."""
    try:
        job.place.enter()
        watch = Watch(job.stop)
        if watch.over():
            return _all(job, Status.INTERRUPTED, "cancelled before it began")
        import torch

        torch.set_num_threads(job.threads)
        runs = _launch(job, watch)
        return [Outcome(number, run.status, run.why) for number, run in zip(job.numbers, runs, strict=True)]
    except KeyboardInterrupt:
        return _all(job, Status.INTERRUPTED, "stopped at once; --resume goes on from the last checkpoint")
    except Exception as error:  # noqa: BLE001 - one point must not end the others
        status, why = _judge(error)
        return _all(job, status, why)


def _launch(job: Job, watch: Watch) -> list[store.Run]:
    from limen.launch import launch

    matmul = usable(job.matmul, job.specs[0].device)
    if len(job.specs) == 1:
        return [launch(job.specs[0], resume=True, matmul=matmul, listen=watch)]
    from limen.ensemble import launch_together

    return launch_together(
        job.specs, mode=job.ensemble, matmul=matmul, listen=lambda number, event: watch(event)
    )


@functools.cache
def usable(mode: str | None, device: str) -> str | None:
    """Return `mode`, or "highest" where its products are not float32-accurate on this machine's `device`.

    The mode was found where the sweep was typed; a node of a cluster may be other hardware.
    """
    if mode in (None, "highest"):
        return mode
    import torch

    from limen.linalg.matmul import gemm_error, set_matmul_mode

    there = "cuda" if torch.cuda.is_available() else "cpu"
    set_matmul_mode(mode)
    return mode if gemm_error(there if device == "auto" else device) < ACCURATE else "highest"


def _all(job: Job, status: str, why: str) -> list[Outcome]:
    return [Outcome(number, status, why) for number in job.numbers]


def _judge(error: Exception) -> tuple[str, str]:
    """Return the status that an error gives a point, and the reason."""
    match error:
        case BusyError():
            return BUSY, str(error)
        case InputError():
            return REFUSED, "; ".join(str(error).splitlines())
        case LimenError():
            return Status.FAILED, str(error)
    place = place_of(error)
    return Status.FAILED, describe(error) + (f", at {place}" if place else "")
