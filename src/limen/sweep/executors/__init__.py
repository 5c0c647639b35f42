"""Where jobs are run: one small interface, and an existing engine behind each of its forms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from limen.sweep.work import DIED, Job, Outcome


class Executor(ABC):
    """Runs jobs elsewhere and hands back what came of them; closed at the end of its `with`.

    Attributes:
        slots: how many jobs it takes at a time.
        told: what it is, in words.
    """

    slots: int
    told: str

    @abstractmethod
    def submit(self, jobs: Sequence[Job]) -> None:
        """Take jobs, at most as many as there are free slots."""

    @abstractmethod
    def wait(self, seconds: float) -> list[tuple[Job, list[Outcome]]]:
        """Return the jobs that have ended since the last call; wait for the first of them, up to `seconds`.

        A worker that ended without a word gives its points the status `died`.
        """

    @abstractmethod
    def kill(self) -> None:
        """End everything at once."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the workers; nothing is running any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill()
        self.close()


def died(job: Job, why: str) -> tuple[Job, list[Outcome]]:
    """Return a job whose worker ended without a word."""
    return job, [Outcome(number, DIED, why) for number in job.numbers]
