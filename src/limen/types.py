"""The nouns of limen. This module imports nothing of ours, and torch only for the type checker.

Shapes: p parameters, k vectors, n examples; `(…, p)` marks a leading batch of ensemble members.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Need(enum.Flag):
    """What will be asked of a `Point`; declared before it is evaluated, so that one pass serves all."""

    NOTHING = 0
    LOSS = enum.auto()  # the loss, and the accuracy where it is defined
    GRAD = enum.auto()
    PREDICTIONS = enum.auto()
    CURVATURE = enum.auto()  # Hessian-vector products will follow: keep the gradient's graph


@dataclass(frozen=True)
class State:
    """Where a dynamics stands: explicit data, never mutated in place.

    Attributes:
        w: flat parameters, `(…, p)`.
        t: time since the start in the dynamics' own clock (lr x steps for descent); float64 on the CPU.
        hyper: numeric hyperparameters (lr, beta, noise), float64 on the CPU, one value per member.
        slots: further vectors like `w` (velocity, second moments).
        buffers: module buffers, where a training BatchNorm has them.
        branches: where the other dynamics of a composite stand, by name.
        history: what an integrator carries from step to step: tensors, numbers and words.
    """

    w: Tensor
    t: Tensor
    hyper: Mapping[str, Tensor] = field(default_factory=dict)
    slots: Mapping[str, Tensor] = field(default_factory=dict)
    buffers: Mapping[str, Tensor] = field(default_factory=dict)
    branches: Mapping[str, State] = field(default_factory=dict)
    history: Mapping[str, Any] = field(default_factory=dict)

    def replace(self, **changes: Any) -> State:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers of tensors, for a checkpoint that loads with `weights_only=True`."""
        return {
            "w": self.w,
            "t": self.t,
            "hyper": dict(self.hyper),
            "slots": dict(self.slots),
            "buffers": dict(self.buffers),
            "branches": {name: branch.to_dict() for name, branch in self.branches.items()},
            "history": dict(self.history),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], device: torch.device | None = None) -> State:
        """Undo `to_dict`; `w`, slots, buffers and history go to `device`."""

        def place(values: Mapping[str, Any]) -> dict[str, Any]:
            return {
                name: value if isinstance(value, (bool, int, float, str)) else value.to(device)
                for name, value in values.items()
            }

        slots, buffers = place(data["slots"]), place(data["buffers"])
        # a checkpoint of an earlier version has neither branches nor history
        branches = {name: cls.from_dict(part, device) for name, part in data.get("branches", {}).items()}
        history = place(data.get("history", {}))
        return cls(data["w"].to(device), data["t"], dict(data["hyper"]), slots, buffers, branches, history)


@dataclass(frozen=True)
class Batch:
    """Examples with augmentation, label noise and masks already drawn: inputs (n, …), targets (n, …).

    Attributes:
        seed: of what the network itself draws (dropout), so that a batch seen again is seen alike.
    """

    inputs: Tensor
    targets: Tensor
    seed: int = 0


Stream: TypeAlias = Callable[[int], "Batch | None"]
"""A pure function of the step; `None` stands for the objective's own full batch."""


def full_batch(step: int) -> Batch | None:
    """Return the trivial stream: every step sees all the data."""
    return None


class LinearOperator(ABC):
    """A symmetric n x n operator known by its products; rows are vectors, so `matmat` maps (k, n) to (k, n).

    Attributes:
        n: dimension.
        dtype: of the vectors.
        device: where they live.
    """

    n: int
    dtype: torch.dtype
    device: torch.device

    @abstractmethod
    def matmat(self, V: Tensor) -> Tensor:
        """Apply the operator to each row of `V` (k, n)."""

    def matvec(self, v: Tensor) -> Tensor:
        """Apply the operator to one vector (n,)."""
        return self.matmat(v[None])[0]


class Point(ABC):
    """One place on the landscape, evaluated lazily and once: who asks first pays, everyone after reads.

    Attributes:
        batch: the examples that are seen; None for the objective's own full batch.
    """

    objective: Objective
    batch: Batch | None = None

    @property
    @abstractmethod
    def loss(self) -> Tensor:
        """The loss, a 0-dim tensor."""

    @property
    @abstractmethod
    def accuracy(self) -> Tensor:
        """Fraction of examples classified correctly, 0-dim; nan where accuracy is undefined."""

    @property
    @abstractmethod
    def grad(self) -> Tensor:
        """The gradient (p,)."""

    @property
    @abstractmethod
    def predictions(self) -> Tensor:
        """The network's outputs on the data (n, …), detached."""

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """Module buffers after this pass, such as running statistics; none but where a network trains."""
        return {}

    @abstractmethod
    def curvature(self, subset: int | None = None) -> LinearOperator:
        """The Hessian of the mean loss over the first `subset` examples (all if None)."""

    def hvp(self, V: Tensor) -> Tensor:
        """Hessian-vector products: (k, p) to (k, p), or (p,) to (p,)."""
        operator = self.curvature()
        return operator.matvec(V) if V.ndim == 1 else operator.matmat(V)

    @abstractmethod
    def d3(self, u: Tensor, v: Tensor) -> Tensor:
        """The third derivative along two directions, the gradient of u'Hv in w: (p,), (p,) to (p,)."""


class Objective(ABC):
    """A loss landscape on R^p: a network on data, or a toy potential.

    Attributes:
        dim: p.
        dtype: of the parameters.
        device: where they live.
        test: a sibling on held-out data, or None.
    """

    dim: int
    dtype: torch.dtype
    device: torch.device
    test: Objective | None = None

    @abstractmethod
    def at(self, state: State, batch: Batch | None = None, need: Need = Need.LOSS) -> Point:
        """Return the point at `state.w`; nothing is computed before it is asked for."""

    @abstractmethod
    def start(self) -> Tensor:
        """Return a copy of the initial parameters (p,)."""

    def buffers(self) -> dict[str, Tensor]:
        """Return a copy of the initial module buffers, where training moves them."""
        return {}

    def state_dict(self, state: State) -> dict[str, Tensor]:
        """Return `state.w` in the names and shapes of the user's module."""
        return {"w": state.w.clone()}

    def describe(self) -> dict[str, Any]:
        """Return what identifies the landscape (JSON-able), stored with a run and compared on resume."""
        return {"objective": type(self).__name__, "dim": self.dim}


Info: TypeAlias = Mapping[str, float]
Value: TypeAlias = "float | int | bool | list[float] | Tensor"
Memory: TypeAlias = dict[str, Any]
"""What a probe carries from one measurement to the next: tensors and plain numbers, checkpointed."""


class Dynamics(ABC):
    """A rule of motion. It holds no state of its own; numbers an ensemble may vary live in `State.hyper`.

    Attributes:
        name: as in folder names and on the command line.
        need: what a step asks of its point.
        lengthy: whether one step may take minutes, so that a signal to stop should not wait for its end.
        remedy: what may help where it diverges.
    """

    name: str
    need: Need = Need.GRAD
    lengthy: bool = False
    remedy: str = "a smaller lr may converge"

    @abstractmethod
    def init(self, objective: Objective, w: Tensor) -> State:
        """Return the state at time 0 at parameters `w` (…, p)."""

    @abstractmethod
    def step(self, point: Point, state: State) -> tuple[State, Info]:
        """Advance once from `state`, where `point` was taken; neither is changed."""

    def threshold(self) -> float | None:
        """Return the sharpness above which a quadratic is unstable under this rule; None if there is none."""
        return None

    def describe(self) -> dict[str, Any]:
        """Return what must agree for a run to be continued (JSON-able)."""
        return {"name": self.name, **vars(self)}


@dataclass(frozen=True)
class Schedule:
    """Which steps a probe looks at: the multiples of `every` from `start` on; none if `every` is not positive.

    >>> [step for step in range(7) if Schedule(3).due(step)]
    [0, 3, 6]
    """

    every: int = 1
    start: int = 0

    def due(self, step: int) -> bool:
        """Whether `step` is one of them."""
        return self.every > 0 and step % self.every == 0 and step >= self.start


class Probe(ABC):
    """A measurement. It never moves buffers, gradients, random streams or the trajectory.

    Attributes:
        name: key of its records and of its memory.
        need: what a measurement asks of the point.
        schedule: the steps it looks at.
        branch: of a composite dynamics, under whose name its records are kept; "" for the main one.
    """

    name: str
    need: Need = Need.NOTHING
    schedule: Schedule = Schedule()
    branch: str = ""

    def init(self, objective: Objective) -> Memory:
        """Check that the probe fits `objective` and return the memory before the first measurement."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return what must agree for its records to be continued (JSON-able)."""
        return {"every": self.schedule.every}

    @abstractmethod
    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        """Return the values by name and the new memory; numbers and short lists go to text, tensors to blocks."""


@dataclass(frozen=True)
class Record:
    """What one probe saw at one step, before that step's update."""

    probe: str
    step: int
    t: float
    values: Mapping[str, Value]
    branch: str = ""


@dataclass(frozen=True)
class Mark:
    """A step boundary: the state before step `step` is measured, and all that is needed to go on from it."""

    step: int
    state: State
    memory: Mapping[str, Memory]


class Status(enum.StrEnum):
    """How a run stands."""

    RUNNING = "running"
    FINISHED = "finished"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


AVERAGE = "average"
"""The branch of a state that holds averaged weights and buffers; where there is one, it is what is evaluated."""

HALTED = "halted"
"""In the history of a branch: why it could not go on."""


class HaltError(Exception):
    """A dynamics cannot go on from where it stands; the run ends there, and keeps what it has.

    Attributes:
        status: how the run ends.
    """

    def __init__(self, status: Status, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class End:
    """The last event of a run: how it ended and why, in words that say what to do next."""

    status: Status
    why: str


Event: TypeAlias = "Record | Mark | End"
Events: TypeAlias = Iterator["Record | Mark | End"]
