"""Changes between the stiff and the explicit integrator as the landscape asks for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limen.ode.integrator import Gradient, Integrator, Ledger, Memory, StalledError, check
from limen.ode.ndf import NDF
from limen.ode.radius import Radius, spectral_radius
from limen.ode.rk43 import RK43
from limen.ode.rkc2 import RKC2

TIGHT = 1e-3
"""rtol up to which NDF starts."""
WINDOW = 40
"""Attempts over which rejections are counted."""
LEAST = 12
"""Attempts before a share of rejections means something; those over which the cost is reckoned."""
MANY, FEW = 0.25, 0.1
"""Share of rejections in the window above which NDF gives way, and up to which RKC2 may."""
SUSPECT = 2.0
"""Rejections within some LEAST attempts at which NDF's cost is compared with that of explicit steps."""
DEAR = 3.0
"""Gradients for each 1/ρ of time above which explicit steps are cheaper (RK4 takes 4, RK43 2 to 4)."""
FRESH = {"attempts": 0, "rejected": 0.0, "late": 0.0, "spent": 0.0, "gone": 0.0}
"""An empty window."""
ROUNDINGS = 30
"""Roundings above which rtol must lie for rejections to speak of kinks rather than of the precision."""
PATIENCE = {RKC2.name: 200, RK43.name: 100}
"""Calm steps of an explicit method before NDF is tried again; doubled with each change."""


@dataclass(frozen=True)
class Auto(Integrator):
    """NDF at tight tolerances; explicit where its steps are rejected (kinks, negative curvature); RKC2 at loose ones.

    From NDF it changes

    - to RK43 when steps are rejected and NDF takes more than 3 gradients for each 1/ρ of time: at kinks. ρ is measured
      only when there is that suspicion. RK43 goes on in steps of 1.1/ρ to 2/ρ up to 100 times the tolerance
      (`Evidence.forced`), so that kinks cost no more than with RK4 at alpha = 1;
    - to RKC2 when more than a quarter of the last 12 to 40 attempts were rejected, or NDF finds no step at all, though
      it is cheap: negative curvature; also where rtol is within thirty roundings, since rejections there speak of
      the precision, and no step may then be forced;

    and back after 200 calm steps of RKC2, or 100 of RK43 at its longest within the tolerance; then twice as many, and
    so on, since kinks and negative curvature may pass. A change keeps time and θ.

    Attributes:
        rtol: bound on the local error of a step, relative to ‖θ‖.
    """

    rtol: float = 1e-5
    name = "auto"

    def _inner(self, name: str, dtype: torch.dtype) -> Integrator:
        if name == NDF.name:
            return NDF(self.rtol)
        if name == RK43.name:
            return RK43(self.rtol)
        return RKC2(self.rtol, floor=1.0 if self._may_force(dtype) else 0.0)

    def _may_force(self, dtype: torch.dtype) -> bool:
        return self.rtol >= ROUNDINGS * torch.finfo(dtype).eps

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
        """Return "auto/ndf", "auto/rkc2" or "auto/rk43"."""
        return f"auto/{memory['method']}"

    def at(self, memory: Memory, t: float) -> Tensor:
        """Return θ(t) by the interpolant of the method that took the last step."""
        return self._of(memory).at(memory, t)

    def step(self, field: Ledger, memory: Memory, t_end: float) -> Memory:
        """Return the memory after one accepted step, of another method where it is time to change."""
        if memory["method"] != NDF.name:
            if self._calm(memory):
                memory = self._change(field, memory, NDF.name)
        elif self._suspect(memory) and self._may_force(memory["D"].dtype):
            memory = self._compare(field, memory)
        elif self._restless(memory):
            memory = self._change(field, memory, RKC2.name)
        rejections, gradients = field.rejections, field.gradients
        try:
            new = self._of(memory).step(field, memory, t_end)
        except StalledError:
            if memory["method"] != NDF.name:
                raise
            memory = self._change(field, memory, RKC2.name)
            field.forgive()
            rejections, gradients = field.rejections, field.gradients
            new = self._of(memory).step(field, memory, t_end)
        rejected = field.rejections - rejections
        # exponential windows: old attempts fade
        fade, soon = (1 - 1 / WINDOW) ** (1 + rejected), (1 - 1 / LEAST) ** (1 + rejected)
        kept = {key: memory[key] for key in ("method", "changes")}
        return new | kept | {
            "attempts": memory["attempts"] + 1 + rejected,
            "rejected": memory["rejected"] * fade + rejected,
            "late": memory["late"] * soon + rejected,
            "spent": memory["spent"] * soon + field.gradients - gradients,
            "gone": memory["gone"] * soon + new["t"] - memory["t"],
            "calm": memory["calm"] + 1,
        }  # fmt: skip

    def _suspect(self, memory: Memory) -> bool:
        """Whether to measure ρ: at two late rejections, or at one where attempts have been dear by any account.

        NDF's own radius bounds ρ from below, so on a smooth landscape it suffices to show that NDF is cheap.
        """
        late, spent = memory["late"], memory["spent"]
        attempts = min(memory["attempts"], LEAST)
        dear = spent > 2 * DEAR * attempts and spent > DEAR * memory["radius"] * memory["gone"]
        return bool(late >= SUSPECT or (late >= 0.5 and dear))

    def _restless(self, memory: Memory) -> bool:
        seen = min(memory["attempts"], WINDOW)
        many: bool = seen >= LEAST and memory["rejected"] > MANY * seen
        return many

    def _calm(self, memory: Memory) -> bool:
        needed = PATIENCE[memory["method"]] * 2 ** (memory["changes"] // 2)
        if memory["method"] == RK43.name:
            return bool(memory["smooth"] >= needed)
        due: bool = memory["calm"] >= needed
        return due and self.rtol <= TIGHT and bool(memory["rejected"] <= FEW * WINDOW)

    def _compare(self, field: Ledger, memory: Memory) -> Memory:
        """Go over to RK43 if that is cheaper than NDF of late was; else begin the count of late rejections anew."""
        theta = memory["D"][0]
        g = field(theta)
        warm = Radius(0.0, g if float(g.norm()) > 0 else g + 1)
        found = spectral_radius(field, theta, g, warm, 0.1)
        if not memory["spent"] > DEAR * found.value * memory["gone"]:  # nan is not
            return memory | {"late": 0.0}
        new = self._change(field, memory, RK43.name, g)
        return new | {"radius": found.value, "vector": found.vector, "old": 0}

    def _change(self, field: Ledger, memory: Memory, name: str, g: Tensor | None = None) -> Memory:
        theta = self.at(memory, memory["t"])
        known = g if memory["method"] == NDF.name else memory["g"]
        inner = self._inner(name, theta.dtype).init(field, theta, memory["t"], gradient=known)
        inner["size"] = max(inner["size"], memory["size"])
        return inner | {"method": name, "calm": 0, "changes": memory["changes"] + 1} | FRESH
