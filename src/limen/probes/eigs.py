"""The top Hessian eigenvalues along a run, each solve starting where the last one ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from limen.errors import InputError
from limen.linalg.krylov import Eigenpairs, top_eigenpairs
from limen.randomness import generator
from limen.types import Memory, Need, Objective, Point, Probe, Schedule, State, Value


@dataclass(frozen=True)
class Eigs(Probe):
    """Records `eigs` (descending), `eig_residuals`, `eig_products` and `eig_converged`.

    The algebraically largest eigenvalues of the Hessian of the mean loss over the first `abridged_size` training
    examples, to a relative tolerance; see `limen.linalg.krylov.top_eigenpairs`.

    Attributes:
        neigs: how many eigenvalues, k.
        schedule: the steps it looks at.
        abridged_size: how many training examples the Hessian is taken over; None for all.
        eig_tol: relative tolerance on each eigenvalue.
        seed: of the random vectors that the first solve starts from.
    """

    neigs: int
    schedule: Schedule = Schedule(1)
    abridged_size: int | None = None
    eig_tol: float = 1e-3
    seed: int = 0
    name = "eigs"
    need = Need.GRAD | Need.CURVATURE

    def __post_init__(self) -> None:
        if not 0 < self.eig_tol < 1:
            raise InputError(f"eig_tol must lie between 0 and 1, got {self.eig_tol}.")
        if self.abridged_size is not None and self.abridged_size < 1:
            raise InputError(f"abridged_size must be at least 1, got {self.abridged_size}.")

    def init(self, objective: Objective) -> Memory:
        """Check that there are so many eigenvalues."""
        if not 1 <= self.neigs <= objective.dim:
            raise InputError(
                f"neigs must lie between 1 and the number of parameters, {objective.dim}, got {self.neigs}."
            )
        return {}

    def describe(self) -> dict[str, Any]:
        """Return its settings."""
        settings = {"neigs": self.neigs, "abridged_size": self.abridged_size, "eig_tol": self.eig_tol}
        return super().describe() | settings | {"seed": self.seed}

    def solve(self, point: Point, step: int, memory: Memory) -> tuple[Eigenpairs, Memory]:
        """Return the eigenpairs at `point` and the memory for the next solve."""
        found = top_eigenpairs(
            point.curvature(self.abridged_size),
            self.neigs,
            start=memory.get("block"),
            tol=self.eig_tol,
            generator=generator(self.seed, "eigs", step),
        )
        return found, {"block": found.block}

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        """Solve from the last solve's vectors."""
        found, memory = self.solve(point, step, memory)
        values: dict[str, Value] = {
            "eigs": found.values.tolist(),
            "eig_residuals": found.residuals.tolist(),
            "eig_products": found.products,
            "eig_converged": found.converged,
        }
        return values, memory


@dataclass
class SharpnessTracker:
    """The top eigenvalues in a user's own training loop.

    Attributes:
        objective: the landscape.
        k: how many eigenvalues.
        tol: relative tolerance on each.

    Examples:
        >>> import torch
        >>> from limen.objectives import Quadratic
        >>> objective = Quadratic(torch.diag(torch.tensor([1.0, 9.0, 4.0])), torch.zeros(3))
        >>> tracker = SharpnessTracker(objective, k=2)
        >>> [round(x, 3) for x in tracker.measure(torch.ones(3)).values.tolist()]
        [9.0, 4.0]
    """

    objective: Objective
    k: int = 1
    tol: float = 1e-3
    _memory: Memory = field(default_factory=dict, repr=False)
    _count: int = field(default=0, repr=False)

    def measure(self, w: Tensor) -> Eigenpairs:
        """Return the top eigenpairs at the flat parameters `w` (p,), starting from those of the last call."""
        probe = Eigs(self.k, eig_tol=self.tol)
        if not self._memory:
            self._memory = probe.init(self.objective)
        state = State(w, w.new_zeros((), device="cpu"))
        point = self.objective.at(state, need=probe.need)
        found, self._memory = probe.solve(point, self._count, self._memory)
        self._count += 1
        return found


def make(
    *, neigs: int = 1, freq: int = 1, abridged_size: int | None = 5000, eig_tol: float = 1e-3, seed: int = 0
) -> Eigs:
    """Return the probe for the `neigs` largest eigenvalues, looking every `freq` steps."""
    return Eigs(neigs, Schedule(freq), abridged_size, eig_tol, seed)
