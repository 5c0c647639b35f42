"""The classical Runge-Kutta method with a free error estimate and steps near its stability limit: for kinks.

Legend: g the gradient, h step, ρ spectral radius of the Hessian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from limen.ode.integrator import Gradient, Integrator, Ledger, Memory, StalledError, check, hermite
from limen.ode.radius import Radius, spectral_radius

SHORT, LONG = 1.1, 2.0
"""Steps in units of 1/ρ: where the tolerance is not met, and at most; stable up to 2.785. SHORT is a tenth above the
published step of RK4, which pays for finding ρ and for finding out that there are kinks."""
COARSE = 100
"""Times the tolerance: the largest error estimate that is accepted."""
REFRESH = 8
"""Steps on one estimate of ρ."""
MOST_RISE = 2.0
"""From one estimate of ρ to the next."""


@dataclass(frozen=True)
class RK43(Integrator):
    """Order 4, steps of 1.1/ρ to 2/ρ: what `auto` falls back on at kinks, where no step is small enough.

    The gradient at the end of a step begins the next (g₅), and h/6 ‖g₄ − g₅‖ is the distance to the solution of order
    3 whose last weight is g₅'s instead of g₄'s: both stages lie at c = 1 with Σaⱼcⱼ = 1/2, so the conditions of order
    3 hold for any split of the weight between them. A step is accepted up to COARSE times the tolerance; those above
    the tolerance are counted (`Evidence.forced`) and the next has length 1.1/ρ. Between steps the cubic through both
    ends with their slopes answers. ρ is a warm power iteration, each REFRESH steps.

    Attributes:
        rtol: local error of a step, relative to ‖θ‖, above which it counts as forced.
    """

    rtol: float = 1e-4
    name = "rk43"

    def init(
        self, field: Gradient, theta: Tensor, t: float = 0.0, *, gradient: Tensor | None = None
    ) -> Memory:
        """Return the memory at (t, θ)."""
        check(theta, self.rtol)
        g = (field(theta) if gradient is None else gradient).clone()
        y = theta.clone()
        return {
            "t": t, "earliest": t, "y": y, "g": g, "before": y, "g_before": g, "relative": SHORT,
            "size": float(y.norm()), "radius": 0.0, "vector": g if float(g.norm()) > 0 else g + 1, "old": REFRESH,
            "smooth": 0,
        }  # fmt: skip

    def step(self, field: Ledger, memory: Memory, t_end: float) -> Memory:
        """Return the memory after one accepted step."""
        t, y, g = memory["t"], memory["y"], memory["g"]
        slope = float(g.norm())
        if not math.isfinite(slope):
            raise StalledError(
                f"the gradient is not finite at t = {t:.6g}: the flow has diverged.", diverged=True
            )
        size = memory["size"] or slope * (t_end - t) or 1.0
        found, old = Radius(memory["radius"], memory["vector"]), memory["old"]
        relative = memory["relative"]
        while True:
            if old >= REFRESH:
                again = spectral_radius(field, y, g, found, 0.05)
                # a difference across a kink is of any size: no estimate rises by more than MOST_RISE at once
                most = MOST_RISE * found.value if found.value > 0 else math.inf
                if math.isfinite(again.value):
                    found = Radius(min(again.value, most), again.vector)
                old = 0
            h = relative / found.value if found.value > 0 else t_end - t
            g2 = field(y - 0.5 * h * g)
            g3 = field(y - 0.5 * h * g2)
            g4 = field(y - h * g3)
            new = y - h / 6 * (g + 2 * (g2 + g3) + g4)
            g5 = field(new)
            error = h / 6 * float((g4 - g5).norm())
            measure = error / (self.rtol * size)
            if measure <= COARSE:  # nan is not
                break
            field.reject(y, t, h, "error too large" if math.isfinite(measure) else "infinite", slope)
            relative *= max(0.1, 0.8 * (COARSE / measure) ** 0.25) if math.isfinite(measure) else 0.1
            old = REFRESH if field.in_a_row == 1 else old
        field.forced += measure > 1
        field.accept(error, h * found.value)
        smooth = measure <= 1 and relative >= LONG
        # beyond that only with room to spare, so that the steps do not sway
        back = min(SHORT, 1.5 * relative)
        free = LONG if measure == 0 else min(LONG, relative * min(1.5, 0.7 * measure**-0.25))
        return {
            "t": t + h, "earliest": t, "y": new, "g": g5, "before": y, "g_before": g,
            "relative": back if measure > 1 else max(back, free),
            "size": max(size, float(new.norm())), "radius": found.value, "vector": found.vector, "old": old + 1,
            "smooth": memory["smooth"] + 1 if smooth else 0,
        }  # fmt: skip

    def at(self, memory: Memory, t: float) -> Tensor:
        """Return the cubic Hermite interpolant of the last step at t."""
        return hermite(memory, t)
