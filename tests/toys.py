"""A small landscape, a rule with memory of its own and probes of every kind, for tests of the run folder.

The numbers depend on the whole history (momentum, a probe's memory), so a resume that loses anything shows.
"""

from __future__ import annotations

import math
import resource
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limen import store
from limen.errors import StoreError
from limen.run import Experiment
from limen.types import (
    Batch,
    Dynamics,
    Info,
    LinearOperator,
    Memory,
    Need,
    Objective,
    Point,
    Probe,
    Schedule,
    State,
    Value,
)


class Bowl(Objective):
    """L(w) = Σ cosh(√λᵢ wᵢ) − 1, which overflows where descent diverges."""

    def __init__(self, dim: int = 5, pause: float = 0.0) -> None:
        self.dim, self.dtype, self.device, self.pause = dim, torch.float32, torch.device("cpu"), pause
        self.scale = torch.linspace(0.5, 2.0, dim)

    def at(self, state: State, batch: Batch | None = None, need: Need = Need.LOSS) -> Point:
        time.sleep(self.pause)
        return BowlPoint(self, state.w)

    def start(self) -> Tensor:
        return torch.linspace(-1, 1.5, self.dim)


class BowlPoint(Point):
    def __init__(self, objective: Bowl, w: Tensor) -> None:
        self.objective, self.w, self.scale = objective, w, objective.scale

    @property
    def loss(self) -> Tensor:
        return (torch.cosh(self.scale * self.w) - 1).sum()

    @property
    def accuracy(self) -> Tensor:
        return torch.tensor(torch.nan)

    @property
    def grad(self) -> Tensor:
        return self.scale * torch.sinh(self.scale * self.w)

    @property
    def predictions(self) -> Tensor:
        return self.w

    def curvature(self, subset: int | None = None) -> LinearOperator:
        raise NotImplementedError

    def d3(self, u: Tensor, v: Tensor) -> Tensor:
        raise NotImplementedError


class HeavyBall(Dynamics):
    name = "heavy"

    def __init__(self, lr: float = 0.05, beta: float = 0.9) -> None:
        self.lr, self.beta = lr, beta

    def init(self, objective: Objective, w: Tensor) -> State:
        return State(w, torch.zeros((), dtype=torch.float64), slots={"v": torch.zeros_like(w)})

    def step(self, point: Point, state: State) -> tuple[State, Info]:
        v = self.beta * state.slots["v"] - self.lr * point.grad
        return state.replace(w=state.w + v, t=state.t + self.lr, slots={"v": v}), {}

    def threshold(self) -> float:
        return 2 * (1 + self.beta) / self.lr


class Train(Probe):
    name, need = "train", Need.LOSS

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        return {"train_loss": point.loss.item()}, memory


class Averages(Probe):
    """A short list that depends on all measurements before."""

    name = "averages"
    schedule = Schedule(3)

    def init(self, objective: Objective) -> Memory:
        return {"mean": torch.zeros(objective.dim), "count": 0}

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        mean = 0.7 * memory["mean"] + 0.3 * state.w
        values: dict[str, Value] = {"eigs": mean.topk(2).values.tolist(), "count": memory["count"]}
        return values, {"mean": mean, "count": memory["count"] + 1}


class Iterates(Probe):
    """Rows of `width` numbers; with 100 000 a block holds ten."""

    name = "iterates"
    schedule = Schedule(2)

    def __init__(self, width: int = 100_000) -> None:
        self.width = width

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        return {"iterates": state.w.mean() * torch.arange(self.width)}, memory


class Odd(Probe):
    """Values that strict JSON lacks."""

    name = "odd"

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        return {"odd": [math.nan, math.inf, -math.inf, 0.1], "lone": -math.inf, "flag": True}, memory


def experiment(
    steps: int = 60,
    *,
    pause: float = 0.0,
    lr: float = 0.05,
    small: bool = False,
    **more: Any,
) -> Experiment:
    """Sixty steps with a record of every kind; `small` leaves the large tensors out."""
    probes = more.pop("probes", None) or [Train(), Averages(), *([] if small else [Iterates()])]
    return Experiment(Bowl(pause=pause), HeavyBall(lr), steps, probes, **more)


def child(folder: Path, said: Path, options: dict[str, Any], limit: int | None, made: dict[str, Any]) -> None:
    """Record in another process and write to `said` how it ended; `limit` stands for a full disk."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        said.write_text(store.record(folder, experiment(**made), **options).status)
    except (StoreError, KeyboardInterrupt) as error:
        said.write_text(f"{type(error).__name__}: {error}")


def contents(folder: Path) -> dict[str, bytes]:
    """What must be equal to the last bit between a resumed run and an uninterrupted one."""
    found = [folder / "scalars.jsonl", *folder.glob("series/**/*.safetensors"), *folder.glob("*_final")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
