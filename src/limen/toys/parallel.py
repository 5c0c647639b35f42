"""Work spread over threads: torch and numpy release the interpreter inside each operation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch

from limen.errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")


class Tell(Protocol):
    """Takes what has been done since it was called last, as a fraction of all."""

    def __call__(self, fraction: float) -> None:
        """Note it."""


def silent(fraction: float) -> None:
    """Tell nobody."""


def spread(
    work: Callable[[Task], Result], tasks: Sequence[Task], threads: int | None = None, *, flush: bool = False
) -> list[Result]:
    """Return `work` of each task, in their order, whatever the number of threads.

    Args:
        work: what to do; it must not depend on other tasks.
        tasks: what to do it to.
        threads: how many at once (all cores if None).
        flush: take denormal numbers as zero, which keeps them from slowing float32 a hundredfold.
    """
    count = os.cpu_count() or 1 if threads is None else threads
    if count < 1:
        raise InputError(f"threads must be at least 1, got {count}.")

    def begin() -> None:
        torch.set_flush_denormal(flush)

    with _one_each(), ThreadPoolExecutor(min(count, max(len(tasks), 1)), initializer=begin) as pool:
        futures = [pool.submit(work, task) for task in tasks]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise


@contextmanager
def _one_each() -> Iterator[None]:
    """Have each operation run on the thread that calls it, so that no sum depends on how many share it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
