"""Changes between the stiff and the explicit integrator as the landscape asks for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limen.ode.integrator import Gradient, Integrator, Ledger, Memory, StalledError, check
from limen.ode.ndf import NDF
from limen.ode.rkc2 import RKC2

TIGHT = 1e-3
"""rtol up to which NDF starts."""
WINDOW = 40
"""Attempts over which rejections are counted."""
LEAST = 12
"""Attempts before a share of rejections means something."""
MANY, FEW = 0.25, 0.1
"""Share of rejections in the window above which NDF gives way, and up to which RKC2 may."""
FRESH = {"attempts": 0, "rejected": 0.0}
"""An empty window."""
PATIENCE = 200
"""Steps of RKC2 before NDF is tried again; doubled with each change."""


@dataclass(frozen=True)
class Auto(Integrator):
    """NDF at tight tolerances; RKC2 at loose ones and where NDF's steps are rejected (kinks, negative curvature).

    It changes from NDF to RKC2 when more than a quarter of the last 12 to 40 attempts were rejected, or when NDF finds
    no step at all; and back after 200 calm steps, then 400, and so on, since kinks and negative curvature may pass.
    RKC2 then takes steps of 1/ρ up to 100 times the tolerance (`Evidence.forced`), so that kinks cost little more than
    with RK4; not where rtol is within a hundred roundings: there rejections speak of the precision, not of kinks.

    A change costs at most two gradients and keeps time and θ.

    Attributes:
        rtol: bound on the local error of a step, relative to ‖θ‖.
    """

    rtol: float = 1e-5
    name = "auto"

    def _inner(self, name: str, dtype: torch.dtype) -> Integrator:
        if name == NDF.name:
            return NDF(self.rtol)
        return RKC2(self.rtol, floor=1.0 if self.rtol >= 100 * torch.finfo(dtype).eps else 0.0)

    def _of(self, memory: Memory) -> Integrator:
        kept = memory["D"] if memory["method"] == NDF.name else memory["y"]
        return self._inner(memory["method"], kept.dtype)

    def init(
        self, field: Gradient, theta: Tensor, t: float = 0.0, *, gradient: Tensor | None = None
    ) -> Memory:
        """Return the memory at (t, θ)."""
        check(theta, self.rtol)
        name = NDF.name if self.rtol <= TIGHT else RKC2.name
        inner = self._inner(name, theta.dtype).init(field, theta, t, gradient=gradient)
        return inner | {"method": name, "calm": 0, "changes": 0} | FRESH

    def method(self, memory: Memory) -> str:
        """Return "auto/ndf" or "auto/rkc2"."""
        return f"auto/{memory['method']}"

    def at(self, memory: Memory, t: float) -> Tensor:
        """Return θ(t) by the interpolant of the method that took the last step."""
        return self._of(memory).at(memory, t)

    def step(self, field: Ledger, memory: Memory, t_end: float) -> Memory:
        """Return the memory after one accepted step, of the other method where it is time to change."""
        name = memory["method"]
        if self._calm(memory) if name == RKC2.name else self._restless(memory):
            memory = self._change(field, memory)
        before = field.rejections
        try:
            new = self._of(memory).step(field, memory, t_end)
        except StalledError:
            if memory["method"] != NDF.name:
                raise
            memory = self._change(field, memory)
            field.forgive()
            before = field.rejections
            new = self._of(memory).step(field, memory, t_end)
        rejected = field.rejections - before
        # exponential window: old attempts fade
        fade = (1 - 1 / WINDOW) ** (1 + rejected)
        kept = {key: memory[key] for key in ("method", "changes")}
        return new | kept | {
            "attempts": memory["attempts"] + 1 + rejected,
            "rejected": memory["rejected"] * fade + rejected,
            "calm": memory["calm"] + 1,
        }  # fmt: skip

    def _restless(self, memory: Memory) -> bool:
        seen = min(memory["attempts"], WINDOW)
        many: bool = seen >= LEAST and memory["rejected"] > MANY * seen
        return many

    def _calm(self, memory: Memory) -> bool:
        due: bool = memory["calm"] >= PATIENCE * 2 ** (memory["changes"] // 2)
        return due and self.rtol <= TIGHT and bool(memory["rejected"] <= FEW * WINDOW)

    def _change(self, field: Ledger, memory: Memory) -> Memory:
        name = RKC2.name if memory["method"] == NDF.name else NDF.name
        theta = self.at(memory, memory["t"])
        known = memory["g"] if memory["method"] == RKC2.name else None
        inner = self._inner(name, theta.dtype).init(field, theta, memory["t"], gradient=known)
        inner["size"] = max(inner["size"], memory["size"])
        return inner | {"method": name, "calm": 0, "changes": memory["changes"] + 1} | FRESH
