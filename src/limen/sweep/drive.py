"""The driver of a study: hands out what is not done, and copes with whatever comes back.

It may die at any moment: what it knows is in the run folders, and the next driver finds it there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FrameType

from limen import store
from limen.config import Spec
from limen.store import layout
from limen.sweep.executors import Executor
from limen.sweep.plan import Plan, Point
from limen.sweep.study import REFUSED, WAITING, Study, over, relative
from limen.sweep.work import BUSY, DIED, Job, Outcome, Place
from limen.types import Status

ATTEMPTS = 3
"""How often in a row a point may lose its worker without having got any further."""

PATIENCE = 2.0
"""Seconds until a run that another process writes is looked at again."""

TICK = 0.25
"""Seconds between two looks at whether to stop."""

STOPPING = (signal.SIGINT, signal.SIGTERM)
ENDED = (Status.FINISHED, Status.DIVERGED)

Tell = Callable[[str], object]
Listen = Callable[[Outcome], object]


@dataclass(frozen=True)
class Work:
    """What is to do for a plan.

    Attributes:
        done: numbers of the points whose run is over.
        begun: of those whose run goes on.
        new: of those that have none.
    """

    done: list[int]
    begun: list[int]
    new: list[int]

    @property
    def pending(self) -> list[int]:
        """All that is to run, what has begun first."""
        return [*self.begun, *self.new]


def work_of(plan: Plan) -> Work:
    """Return what is done and what is to do, as the run folders say."""
    done: list[int] = []
    begun: list[int] = []
    new: list[int] = []
    for number, point in enumerate(plan.points):
        if over(point) is not None:
            done.append(number)
        else:
            (begun if (point.folder / layout.MANIFEST).is_file() else new).append(number)
    return Work(done, begun, new)


@dataclass(frozen=True)
class Manner:
    """How the points are run.

    Attributes:
        threads: of torch for each.
        matmul: mode of float32 products; None for each worker's own choice.
        ensemble: off, on or auto: whether points that differ in numbers only advance together.
    """

    threads: int = 1
    matmul: str | None = None
    ensemble: str = "off"


class Signals:
    """Ctrl-C and SIGTERM while entered: the first lets every run end at its next step, the second ends all at once.

    Attributes:
        count: how many have come.
    """

    def __init__(self) -> None:
        self.count = 0

    @contextlib.contextmanager
    def counted(self) -> Iterator[Signals]:
        """Take the signals; in the main thread only, as Python has it."""
        main = threading.current_thread() is threading.main_thread()
        before = {number: signal.signal(number, self._note) for number in STOPPING if main}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


class Driver:
    """Runs the points of a plan.

    Attributes:
        outcomes: what came of each point, by number.
    """

    def __init__(
        self,
        plan: Plan,
        study: Study,
        executor: Executor,
        manner: Manner,
        listen: Listen | None = None,
        tell: Tell | None = None,
    ) -> None:
        """Take what to run and where.

        Args:
            plan: the points.
            study: its folder, which the caller holds (`study.driving`).
            executor: where they run.
            manner: how.
            listen: called with what came of each point.
            tell: called with what a user should hear at once.
        """
        self.plan, self.study, self.executor, self.manner = plan, study, executor, manner
        self._listen, self._tell = listen or _nothing, tell or _nothing
        self.outcomes: dict[int, Outcome] = {}
        self._waiting: deque[tuple[int, ...]] = deque()
        self._later: list[tuple[float, tuple[int, ...]]] = []
        self._running = 0
        self._attempts: Counter[int] = Counter()
        self._reached: dict[int, int] = {}
        self._told: set[int] = set()
        self._place = Place()

    def run(self) -> dict[int, Outcome]:
        """Run what is not done, and return what came of every point.

        Raises:
            StoreError: the study's folder cannot be written.
        """
        with Signals().counted() as signals:
            work = work_of(self.plan)
            for number in work.done:
                run = store.open_run(self.plan.points[number].folder)
                self.outcomes[number] = Outcome(number, run.status, run.why)
            self._waiting.extend(self._grouped(work.pending))
            self.study.log("drive", pid=os.getpid(), host=socket.gethostname(), by=self.executor.told)
            self._loop(signals)
            self.study.log("over", points=len(self.outcomes))
        return dict(sorted(self.outcomes.items()))

    def _grouped(self, pending: list[int]) -> list[tuple[int, ...]]:
        """Return the jobs: a point each, or several as the ensemble's rule has it."""
        specs = [self.plan.points[number].spec for number in pending]
        return [tuple(pending[i] for i in group) for group in self._groups(specs)]

    def _groups(self, specs: list[Spec]) -> list[list[int]]:
        if self.manner.ensemble == "off":
            return [[i] for i in range(len(specs))]
        from limen.ensemble import groups

        return groups(specs, self.manner.ensemble)

    def _loop(self, signals: Signals) -> None:
        asked = False
        while self._waiting or self._later or self._running:
            if signals.count and not asked:
                self._tell("stopping every run after its step; once more to stop at once")
                self.study.cancel()
            if signals.count > 1:
                self.executor.kill()
            if not asked and self.study.stop.exists():
                asked = True
            if asked:
                self._drop()
            else:
                self._hand_out()
            if not self._running:
                time.sleep(TICK if self._later else 0)
                continue
            for job, outcomes in self.executor.wait(TICK):
                self._running -= 1
                lost = [
                    outcome.number
                    for outcome in outcomes
                    if self._take(outcome, alone=len(job.numbers) == 1, asked=asked)
                ]
                self._requeue(lost)

    def _drop(self) -> None:
        """Give up what has not been handed out."""
        left = [*self._waiting, *(numbers for _, numbers in self._later)]
        self._waiting.clear()
        self._later.clear()
        for number in (number for numbers in left for number in numbers):
            self._end(Outcome(number, Status.INTERRUPTED, "cancelled before it began"))

    def _hand_out(self) -> None:
        now = time.monotonic()
        self._waiting.extend(numbers for when, numbers in self._later if when <= now)
        self._later = [(when, numbers) for when, numbers in self._later if when > now]
        jobs: list[Job] = []
        while self._waiting and self._running + len(jobs) < self.executor.slots:
            jobs.append(self._job(self._waiting.popleft()))
        if jobs:
            self.executor.submit(jobs)
            self._running += len(jobs)

    def _job(self, numbers: tuple[int, ...]) -> Job:
        points = [self.plan.points[number] for number in numbers]
        for number, point in zip(numbers, points, strict=True):
            self._reached.setdefault(number, _checkpoint(point))
            self.study.log("start", run=self._name(number), attempt=self._attempts[number] + 1)
        return Job(
            numbers,
            tuple(point.spec for point in points),
            self.manner.threads,
            self.manner.ensemble,
            self.manner.matmul,
            self.study.stop.absolute(),
            self._place,
        )

    def _take(self, outcome: Outcome, *, alone: bool, asked: bool) -> bool:
        """Judge what a worker, or its death, has said about a point; return whether it lost its worker and goes on."""
        number = outcome.number
        point = self.plan.points[number]
        if outcome.status in ENDED:
            self._end(outcome)
        elif (run := over(point)) is not None:  # it was over before its worker ended
            self._end(Outcome(number, run.status, run.why))
        elif asked and outcome.status in (BUSY, DIED, Status.INTERRUPTED):
            self._end(Outcome(number, Status.INTERRUPTED, "cancelled; the same sweep goes on with it"))
        elif outcome.status == BUSY:
            if number not in self._told:
                self._tell(f"{point.label or point.folder}: waiting, as {outcome.why}")
                self._told.add(number)
            self._later.append((time.monotonic() + PATIENCE, (number,)))
        elif outcome.status in (DIED, Status.INTERRUPTED):
            return self._again(number, outcome)
        elif not alone:
            self._waiting.append((number,))  # what stopped all of them may be one's own fault
        else:
            self._end(outcome)
        return False

    def _requeue(self, lost: list[int]) -> None:
        """Let points that lost their worker go on, together as before; one that may kill its workers ends alone."""
        together = tuple(number for number in lost if self._attempts[number] < ATTEMPTS - 1)
        if together:
            self._waiting.append(together)
        self._waiting.extend((number,) for number in lost if number not in together)

    def _again(self, number: int, outcome: Outcome) -> bool:
        """Return whether a point that lost its worker is run again: unless it gets nowhere."""
        reached = _checkpoint(self.plan.points[number])
        if reached > self._reached[number]:
            self._attempts[number] = 0
        self._reached[number] = reached
        self._attempts[number] += 1
        self.study.log("lost", run=self._name(number), why=outcome.why, attempt=self._attempts[number])
        if self._attempts[number] >= ATTEMPTS:
            why = f"{outcome.why}; {ATTEMPTS} attempts in a row got no further"
            self._end(Outcome(number, Status.FAILED, why))
            return False
        return True

    def _end(self, outcome: Outcome) -> None:
        self.outcomes[outcome.number] = outcome
        self.study.log("end", run=self._name(outcome.number), status=str(outcome.status), why=outcome.why)
        self._listen(outcome)

    def _name(self, number: int) -> str:
        return relative(self.plan.points[number].folder, self.study.folder)


def _checkpoint(point: Point) -> int:
    """Return the step of the newest checkpoint, -1 where there is none."""
    found = layout.numbered(point.folder / layout.CHECKPOINTS, ".pt")
    return int(found[-1].stem) if found else -1


def _nothing(anything: object) -> None:
    """Tell nobody."""


def exit_status(states: Iterable[str]) -> int:
    """Return what the command exits with.

    The first that holds of: 130 a point is not over, 1 one failed, 2 one was refused, 3 one diverged, 0 all finished.
    """
    present = set(states)
    unfinished = {Status.INTERRUPTED, Status.RUNNING, WAITING}
    for some, code in ((unfinished, 130), ({Status.FAILED}, 1), ({REFUSED}, 2), ({Status.DIVERGED}, 3)):
        if present & some:
            return code
    return 0
