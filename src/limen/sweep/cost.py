"""What a study will cost, from a few steps of one of its points."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING

from limen.config import Spec
from limen.errors import LimenError
from limen.sweep.executors.local import call
from limen.sweep.work import Place

if TYPE_CHECKING:
    from limen.run import Experiment

SECONDS, STEPS = 1.0, 20
"""How long one point is timed at most."""


@dataclass(frozen=True)
class Question:
    """What is to be timed, and how: a spec, the number of threads, where."""

    spec: Spec
    threads: int
    place: Place


@dataclass(frozen=True)
class Timed:
    """What a few steps have told.

    Attributes:
        step: seconds of a step at which only what is measured at every step is.
        full: seconds of one at which all is measured.
        matmul: mode of float32 products that is fastest here.
        gpus: that runs would use here, by the names of CUDA_VISIBLE_DEVICES.
        trouble: why nothing could be timed.
    """

    step: float = 0.0
    full: float = 0.0
    matmul: str | None = None
    gpus: tuple[str, ...] = ()
    trouble: str = ""

    def seconds(self, specs: Iterable[Spec]) -> float:
        """Return what runs of `specs` would take one after another, as large as the one that was timed."""
        return sum(self._of(spec) for spec in specs)

    def _of(self, spec: Spec) -> float:
        every = min(spec.looks(), default=None)
        looks = 0 if every is None else -(-spec.steps() // every)
        return spec.steps() * self.step + looks * max(0.0, self.full - self.step)


def estimate(question: Question) -> Timed:
    """Return what a few steps tell, taken in a process of its own."""
    try:
        return call(measure, question)
    except EOFError:
        return Timed(
            gpus=_gpus_elsewhere(question.spec.device), trouble="the process that was to time it died"
        )


def measure(question: Question) -> Timed:
    """Time a few steps of a point here; torch is loaded and its threads are set."""
    question.place.enter()
    gpus = gpus_for(question.spec.device)  # whatever becomes of the timing: other points may run
    try:
        return replace(_measure(question), gpus=gpus)
    except LimenError as error:
        return Timed(gpus=gpus, trouble=str(error).splitlines()[0])
    except Exception as error:  # noqa: BLE001 - the user's code; when it runs, the point says what is wrong
        return Timed(gpus=gpus, trouble=f"{type(error).__name__}: {error}")


def gpus_for(device: str) -> tuple[str, ...]:
    """Return the GPUs that a run on `device` (of its spec) would use here, by their names in CUDA_VISIBLE_DEVICES."""
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(named.split(",") if named else map(str, range(torch.cuda.device_count())))


def _gpus_elsewhere(device: str) -> tuple[str, ...]:
    try:
        return call(gpus_for, device)
    except EOFError:
        return ()


def _measure(question: Question) -> Timed:
    import torch

    torch.set_num_threads(question.threads)
    from limen import config
    from limen.launch import surroundings

    built = config.build(question.spec)
    device = built.experiment.objective.device
    matmul = surroundings(device)["matmul"]
    _times(built.experiment, 1, 0)  # what is made at the first step only
    passed = _times(built.experiment, STEPS, SECONDS)
    full = passed[0] if passed else 0.0
    return Timed(statistics.median(passed[1:] or [full]), full, matmul)


def _times(experiment: Experiment, steps: int, seconds: float) -> list[float]:
    """Return the times of at most `steps` steps from the beginning, and of none after `seconds`."""
    from limen.types import Mark

    began = perf_counter()
    marks: list[float] = []
    for event in experiment.run():
        if isinstance(event, Mark):
            marks.append(perf_counter())
            if len(marks) > steps or (len(marks) > 1 and marks[-1] - began > seconds):
                break
    return [after - before for before, after in pairwise(marks)]


def in_words(seconds: float) -> str:
    """Return a duration to about two digits.

    >>> in_words(0.4), in_words(200), in_words(20000)
    ('a second', '3.3 min', '5.6 h')
    """
    if seconds < 1:
        return "a second"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"
