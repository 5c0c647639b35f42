"""The top Hessian eigenvalues along a run, each solve starting where the last one ended."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from limen.errors import InputError
from limen.linalg.audit import lanczos_audit
from limen.linalg.krylov import Eigenpairs, top_eigenpairs
from limen.randomness import generator
from limen.types import LinearOperator, Memory, Need, Objective, Point, Probe, Schedule, State, Value

JUMP = 0.2
"""A relative change of the top eigenvalue since the last measurement that calls for an audit."""


@dataclass(frozen=True)
class Eigs(Probe):
    """Records `eigs` (descending), `eig_residuals`, `eig_products`, `eig_converged`, and now and then an audit.

    The algebraically largest eigenvalues of the Hessian of the mean loss over the first `abridged_size` training
    examples, to a relative tolerance; see `limen.linalg.krylov.top_eigenpairs`. At every
    `audit_freq`-th measurement and whenever the top value has jumped, Lanczos from a fresh random vector looks for
    directions that the warm solver cannot see (`limen.linalg.audit`). What it finds joins the solve. An audit records
    `audit_top` (its own top Ritz value), `audit_miss` (how far beyond it the true one may lie, as a fraction of
    the spread of the spectrum, at probability .99), `audit_caught` and `audit_products`.

    Attributes:
        neigs: how many eigenvalues, k.
        schedule: the steps it looks at.
        abridged_size: how many training examples the Hessian is taken over; None for all.
        eig_tol: relative tolerance on each eigenvalue.
        seed: of the random vectors.
        audit_freq: audit every so many measurements; -1 for never.
        audit_steps: Lanczos steps of an audit.
        above: follow every eigenvalue above this as well, however many there are; None for `neigs` alone.
    """

    neigs: int
    schedule: Schedule = Schedule(1)
    abridged_size: int | None = None
    eig_tol: float = 1e-3
    seed: int = 0
    audit_freq: int = 10
    audit_steps: int = 30
    above: float | None = None
    name = "eigs"
    need = Need.GRAD | Need.CURVATURE

    def __post_init__(self) -> None:
        if not 0 < self.eig_tol < 1:
            raise InputError(f"eig_tol must lie between 0 and 1, got {self.eig_tol}.")
        if self.abridged_size is not None and self.abridged_size < 1:
            raise InputError(f"abridged_size must be at least 1, got {self.abridged_size}.")
        if self.audit_freq < 1 and self.audit_freq != -1:
            raise InputError(f"audit_freq must be at least 1, or -1 for never, got {self.audit_freq}.")
        if self.audit_steps < 2:
            raise InputError(f"audit_steps must be at least 2, got {self.audit_steps}.")

    def init(self, objective: Objective) -> Memory:
        """Check that there are so many eigenvalues."""
        if not 1 <= self.neigs <= objective.dim:
            raise InputError(
                f"neigs must lie between 1 and the number of parameters, {objective.dim}, got {self.neigs}."
            )
        return {}

    def describe(self) -> dict[str, Any]:
        """Return its settings."""
        settings = {key: value for key, value in vars(self).items() if key != "schedule"}
        return super().describe() | settings

    def solve(self, H: LinearOperator, step: int, memory: Memory) -> tuple[Eigenpairs, Memory]:
        """Return the leading eigenpairs of `H`, `neigs` and those above, and the memory for the next solve."""
        k = max(self.neigs, memory.get("above", 0))
        found = self._top(H, min(k, H.n), step, memory.get("block"))
        if self.above is None:
            return found, {"block": found.block}
        spent = found.products
        while found.values[-1] > self.above and len(found.values) < H.n:
            k = min(H.n, len(found.values) + max(2, len(found.values) // 2))
            found = self._top(H, k, step, found.block)
            spent += found.products
        above = int((found.values > self.above).sum())
        keep = max(self.neigs, above)
        found = replace(
            found,
            values=found.values[:keep],
            vectors=found.vectors[:keep],
            residuals=found.residuals[:keep],
            errors=found.errors[:keep],
            products=spent,
            block=found.block[: keep + 1],
        )
        return found, {"block": found.block, "above": above}

    def _top(self, H: LinearOperator, k: int, step: int, start: Tensor | None) -> Eigenpairs:
        return top_eigenpairs(
            H, k, start=start, tol=self.eig_tol, generator=generator(self.seed, "eigs", step)
        )

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        """Solve from the last solve's vectors, and audit when it is due."""
        H = point.curvature(self.abridged_size)
        found, after = self.solve(H, step, memory)
        audited: dict[str, Value] = {}
        if self._audit_due(found, memory):
            found, after, audited = self._audit(H, found, after, step)
        values: dict[str, Value] = {
            "eigs": found.values.tolist(),
            "eig_residuals": found.residuals.tolist(),
            "eig_products": found.products,
            "eig_converged": found.converged,
            **audited,
        }
        after |= {"count": memory.get("count", 0) + 1, "top": float(found.values[0])}
        return values, after

    def _audit_due(self, found: Eigenpairs, memory: Memory) -> bool:
        if self.audit_freq < 0 or not bool(found.values.isfinite().all()):
            return False
        if not memory:
            return False  # the first solve starts from random vectors itself
        before, now = float(memory["top"]), float(found.values[0])
        return int(memory["count"]) % self.audit_freq == 0 or abs(now - before) > JUMP * abs(before)

    def _audit(
        self, H: LinearOperator, found: Eigenpairs, after: Memory, step: int
    ) -> tuple[Eigenpairs, Memory, dict[str, Value]]:
        k = len(found.values)
        steps = max(self.audit_steps, k)
        audit = lanczos_audit(H, k, steps=steps, generator=generator(self.seed, "audit", step))
        tracked = found.values[: len(audit.values)]
        rounding = H.n**0.5 * torch.finfo(H.dtype).eps * found.values.abs().max()
        # a Ritz value is never above the eigenvalue of its rank: being above the tracked one proves a miss
        caught = bool((audit.values > tracked + self.eig_tol * tracked.abs() + rounding).any())
        if caught:
            joined = torch.cat([audit.vectors, found.block])
            spent = found.products
            found, after = self.solve(H, step, {**after, "block": joined})
            found = replace(found, products=spent + found.products)
        record: dict[str, Value] = {
            "audit_top": float(audit.values[0]),
            "audit_miss": audit.miss,
            "audit_caught": caught,
            "audit_products": audit.products,
        }
        return found, after, record


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
        found, self._memory = probe.solve(point.curvature(), self._count, self._memory)
        self._count += 1
        return found


def make(
    *,
    neigs: int = 1,
    freq: int = 1,
    abridged_size: int | None = 5000,
    eig_tol: float = 1e-3,
    seed: int = 0,
    audit_freq: int = 10,
    audit_steps: int = 30,
    above: float | None = None,
) -> Eigs:
    """Return the probe for the `neigs` largest eigenvalues, looking every `freq` steps."""
    return Eigs(neigs, Schedule(freq), abridged_size, eig_tol, seed, audit_freq, audit_steps, above)
