"""The executor of a name, and whether its engine is there."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from limen.errors import InputError
from limen.sweep.cost import Timed
from limen.sweep.executors import Executor
from limen.sweep.executors.local import Local, cores
from limen.sweep.plan import Plan

ENGINES = {"slurm": "submitit", "ray": "ray"}
"""Modules that are extras, by executor."""


@dataclass(frozen=True)
class Wish:
    """Where points are to run.

    Attributes:
        name: local, slurm or ray.
        workers: points at a time; None for what there is.
        threads: of each.
        options: of the engine.
    """

    name: str = "local"
    workers: int | None = None
    threads: int = 1
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for option, value in (("workers", self.workers), ("threads", self.threads)):
            if value is not None and value < 1:
                raise InputError(f"{option}: expected a whole number of at least 1, got {value}.")
        engine = ENGINES.get(self.name)
        if engine is not None and importlib.util.find_spec(engine) is None:
            raise InputError(
                f"--executor {self.name} needs {engine}, which is an extra: pip install 'limen[{self.name}]'."
            )

    def at_a_time(self, points: int, timed: Timed) -> int:
        """Return how many of `points` run at a time, as far as that is known here."""
        return min(points, self.workers or len(timed.gpus) or max(1, cores() // self.threads))


def choose(wish: Wish, plan: Plan, timed: Timed, points: int, logs: Path) -> Executor:
    """Return the executor that is wished for.

    Args:
        wish: where.
        plan: the points, whose devices say whether GPUs are dealt out.
        timed: what this machine has.
        points: how many are to run.
        logs: folder for what the engine has to say.

    Raises:
        InputError: its engine refuses.
    """
    devices = {point.spec.device for point in plan.points}
    if wish.name == "slurm":
        from limen.sweep.executors.slurm import Slurm

        return Slurm(logs, wish.workers, wish.threads, wish.options)
    if wish.name == "ray":
        from limen.sweep.executors.ray import Ray

        return Ray(wish.workers, wish.threads, wish.options, gpus=devices != {"cpu"})
    # a spec that names cuda:1 has to see it
    dealt = timed.gpus if devices <= {"auto", "cuda"} else ()
    return Local(wish.at_a_time(points, timed), wish.threads, dealt)
