"""This machine: spawned processes that keep torch loaded, each working off one job after another.

The standard library's pool fails as a whole when one of its processes is killed, and cannot say which job it held;
here a process that dies takes its own job with it and no other.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from limen.sweep.executors import Executor, died
from limen.sweep.work import Job, Outcome, perform

A = TypeVar("A")
R = TypeVar("R")

context = multiprocessing.get_context("spawn")


def cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows do not say
        return os.cpu_count() or 1


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ignore Ctrl-C (in the main thread, as Python has it): a process begun meanwhile does from its first moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Worker:
    """One process, asked over a pipe.

    Attributes:
        job: what it is doing.
    """

    def __init__(self, gpu: str | None) -> None:
        """Start it; `gpu` is the only device it is to see, None for all."""
        self.connection, theirs = context.Pipe()
        # not a daemon: the run that it is in ends at a step boundary by itself once this process is gone
        self.process = context.Process(target=_serve, args=(theirs, gpu), name="limen worker")
        with _deaf():
            self.process.start()
        theirs.close()  # so that the death of the process ends the pipe
        self.gpu = gpu
        self.job: Job | None = None

    def ask(self, function: Callable[[A], R], argument: A) -> None:
        """Have it call a function of a module."""
        self.connection.send((function, argument))

    def answer(self) -> Any:
        """Return what the function returned.

        Raises:
            EOFError: the process has died.
        """
        try:
            return self.connection.recv()
        except (OSError, EOFError) as error:
            raise EOFError from error

    def death(self) -> str:
        """Wait for the end of a dead process, and return in words how it ended."""
        self.process.join()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"its worker ended with status {code}"
        number = -code
        more = "; out of memory?" if number == signal.SIGKILL else ""
        return f"its worker was ended by {signal.Signals(number).name}{more}"

    def close(self) -> None:
        """Let it end after what it is doing."""
        self.connection.close()
        self.process.join()


def _serve(connection: Connection, gpu: str | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    with contextlib.suppress(EOFError, OSError):  # the driver has closed the pipe, or is gone
        while True:
            function, argument = connection.recv()
            connection.send(function(argument))


def call(function: Callable[[A], R], argument: A) -> R:
    """Return `function(argument)` from a process of its own.

    Raises:
        EOFError: it died.
    """
    worker = Worker(None)
    try:
        worker.ask(function, argument)
        answer: R = worker.answer()
        return answer
    finally:
        worker.close()


class Local(Executor):
    """A pool of processes on this machine."""

    def __init__(self, workers: int, threads: int, gpus: Sequence[str] = ()) -> None:
        """Prepare `workers` processes; they start when there is something to do.

        Args:
            workers: how many.
            threads: of each, for the words only: a job brings its own number.
            gpus: dealt out one a worker; none means that every worker sees all there are.
        """
        self.slots = workers
        self.told = f"{workers} worker{'s' * (workers != 1)} of {threads} thread{'s' * (threads != 1)}"
        self._gpus = list(gpus)
        self._workers: list[Worker] = []

    def submit(self, jobs: Sequence[Job]) -> None:
        """Give each job to a worker that has none."""
        for job in jobs:
            worker = next((worker for worker in self._workers if worker.job is None), None) or self._start()
            worker.job = job
            with contextlib.suppress(OSError):  # it has died while idle: `wait` finds that
                worker.ask(perform, job)

    def _start(self) -> Worker:
        taken = [worker.gpu for worker in self._workers]
        gpu = min(self._gpus, key=taken.count) if self._gpus else None
        self._workers.append(Worker(gpu))
        return self._workers[-1]

    def wait(self, seconds: float) -> list[tuple[Job, list[Outcome]]]:
        """Return the jobs that have ended."""
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        ended = []
        for connection in wait(list(busy), seconds):
            worker = busy[connection]  # type: ignore[index]  # of the three kinds it returns, ours
            job, worker.job = worker.job, None
            assert job is not None
            try:
                ended.append((job, worker.answer()))
            except EOFError:
                self._workers.remove(worker)
                ended.append(died(job, worker.death()))
        return ended

    def kill(self) -> None:
        """Kill every worker."""
        for worker in self._workers:
            worker.process.kill()

    def close(self) -> None:
        """Let the workers end."""
        for worker in self._workers:
            worker.close()
        self._workers = []
