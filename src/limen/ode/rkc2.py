"""The stabilised Runge-Kutta-Chebyshev method of order 2: explicit, with a stability interval that grows as s².

Source: Sommeijer, Shampine & Verwer, *RKC: an explicit solver for parabolic PDEs*, J. Comput. Appl. Math. 88 (1998).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.ode.integrator import Gradient, Integrator, Ledger, Memory, StalledError, check, hermite
from limen.ode.radius import Radius, spectral_radius

SAFETY = 1.1
"""On the spectral radius, which the power iteration approaches from below."""
MOST_STAGES = 1000
COARSE = 100
"""Times the tolerance: the largest error estimate that is accepted at the floor."""


@dataclass(frozen=True)
class Coefficients:
    """Of the s-stage scheme.

    Y₁ = Y₀ + first·h F₀ and, for j = 2 … s, with F = −g,
    Yⱼ = (1 − μⱼ − νⱼ) Y₀ + μⱼ Yⱼ₋₁ + νⱼ Yⱼ₋₂ + μ̃ⱼ h Fⱼ₋₁ + γ̃ⱼ h F₀.

    Attributes:
        first: μ̃₁.
        rows: (μⱼ, νⱼ, μ̃ⱼ, γ̃ⱼ) for j = 2 … s.
    """

    first: float
    rows: tuple[tuple[float, float, float, float], ...]


@functools.lru_cache(maxsize=256)
def coefficients(s: int) -> Coefficients:
    """Return the coefficients for s ≥ 2 stages with damping ε = 2/13 (paper, eq. 2.2 to 2.8).

    T_j(w₀) and its derivatives are taken in closed form, w₀ = cosh a: T = cosh ja, T' = j sinh ja / sinh a,
    T'' = (j² T − w₀ T')/(w₀² − 1).
    """
    w0 = 1 + 2 / (13 * s * s)
    a, square = math.acosh(w0), (w0 - 1) * (w0 + 1)

    def chebyshev(j: int) -> tuple[float, float, float]:
        value, slope = math.cosh(j * a), j * math.sinh(j * a) / math.sqrt(square)
        return value, slope, (j * j * value - w0 * slope) / square

    _, slope, bend = chebyshev(s)
    w1 = slope / bend
    T = [chebyshev(j) for j in range(s + 1)]
    b = [0.0, 1 / w0] + [T[j][2] / T[j][1] ** 2 for j in range(2, s + 1)]
    b[0] = b[2]
    rows = []
    for j in range(2, s + 1):
        tilde = 2 * b[j] * w1 / b[j - 1]
        before = 1 - b[j - 1] * T[j - 1][0]
        rows.append((2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2], tilde, -before * tilde))
    return Coefficients(b[1] * w1, tuple(rows))


def stages(hρ: float) -> int:
    """Return the least s that is stable on the whole interval [−hρ, 0], at least 2 (paper, §3)."""
    return max(2, 1 + math.floor(math.sqrt(1.54 * hρ + 1)))


@dataclass(frozen=True)
class RKC2(Integrator):
    """Order 2 with as many stages as the spectral radius asks for; suits loose tolerances and kinked networks.

    The local error is that of the paper, 0.8 (yₙ − yₙ₊₁) + 0.4 h (Fₙ + Fₙ₊₁), held below rtol‖θ‖. The gradient at the
    end of a step begins the next. Between steps the cubic through both ends with their slopes answers.

    Attributes:
        rtol: bound on the local error of a step, relative to ‖θ‖.
        floor: accept steps of length floor/ρ or less up to COARSE times the tolerance; at kinks, where no step is
            small enough, floor = 1 costs less than RK4 at alpha = 1 and is as blind. `Evidence.forced` counts them.
        fixed: take steps of this length and accept them all (for tests of the order).
    """

    rtol: float = 1e-4
    floor: float = 0.0
    fixed: float | None = None
    name = "rkc2"

    def init(
        self, field: Gradient, theta: Tensor, t: float = 0.0, *, gradient: Tensor | None = None
    ) -> Memory:
        """Return the memory at (t, θ)."""
        check(theta, self.rtol)
        g = (field(theta) if gradient is None else gradient).clone()
        y = theta.clone()
        return {
            "t": t, "earliest": t, "y": y, "g": g, "before": y, "g_before": g,
            "h": 0.0, "h_last": 0.0, "error_last": 0.0, "size": float(y.norm()),
            "radius": 0.0, "vector": g if float(g.norm()) > 0 else torch.ones_like(y),
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
        found = spectral_radius(field, y, g, Radius(memory["radius"], memory["vector"]), 0.05)
        radius = found.value if math.isfinite(found.value) else memory["radius"]
        h = self.fixed or memory["h"] or self._first_step(field, y, g, radius, size, t_end - t)
        while True:
            ρ = SAFETY * radius
            s = stages(h * ρ)
            if s > MOST_STAGES:
                s = MOST_STAGES
                h = (s * s - 1) / 1.54 / ρ
            new = self._try(field, y, g, h, s)
            g_new = field(new)
            error = 0.8 * (y - new) - 0.4 * h * (g + g_new)
            measure = float(error.norm()) / (self.rtol * size)
            if self.fixed:
                break
            forced = measure <= COARSE and h * ρ <= self.floor * (1 + 1e-9)
            if math.isfinite(measure) and (measure <= 1 or forced):
                field.forced += measure > 1
                break
            reason = "error too large" if math.isfinite(measure) else "infinite"
            field.reject(y, t, h, reason, slope)
            if field.in_a_row == 1:  # the radius may have grown unseen
                again = spectral_radius(field, y, g, found, 0.01)
                radius = max(radius, again.value) if math.isfinite(again.value) else radius
            h *= min(0.5, max(0.1, 0.8 * measure ** (-1 / 3))) if math.isfinite(measure) else 0.1
            if measure <= COARSE and radius > 0:
                h = max(h, self.floor / (SAFETY * radius))
        growth = self._growth(measure, h, memory) if measure <= 1 else 1.0
        field.accept(measure * self.rtol * size, h * radius)
        return {
            "t": t + h, "earliest": t, "y": new, "g": g_new, "before": y, "g_before": g,
            "h": self.fixed or h * growth, "h_last": h, "error_last": measure,
            "size": max(size, float(new.norm())), "radius": radius, "vector": found.vector,
        }  # fmt: skip

    @staticmethod
    def _first_step(field: Ledger, y: Tensor, g: Tensor, radius: float, size: float, span: float) -> float:
        """Half of the explicit step 1/ρ, or less where the slope is large; the interval where nothing moves."""
        slope = float(g.norm())
        moving = 0.1 * size / slope if slope > 0 else math.inf
        return min(0.5 / radius if radius > 0 else math.inf, moving, span if moving == math.inf else math.inf)

    @staticmethod
    def _try(field: Ledger, y: Tensor, g: Tensor, h: float, s: int) -> Tensor:
        table = coefficients(s)
        older, newer = y, y - table.first * h * g
        for μ, ν, tilde, γ in table.rows:
            slope = field(newer)
            older, newer = newer, (1 - μ - ν) * y + μ * newer + ν * older - h * (tilde * slope + γ * g)
        return newer

    @staticmethod
    def _growth(measure: float, h: float, memory: Memory) -> float:
        """Return the factor of the next step: the controller of the paper, with the memory of one step (eq. 2.9)."""
        if measure == 0:
            return 10.0
        plain = measure ** (-1 / 3)
        last, h_last = memory["error_last"], memory["h_last"]
        if last > 0 and h_last > 0:
            plain = min(plain, (h / h_last) * last ** (1 / 3) * measure ** (-2 / 3))
        return float(min(10.0, max(0.1, 0.8 * plain)))

    def at(self, memory: Memory, t: float) -> Tensor:
        """Return the cubic Hermite interpolant of the last step at t."""
        return hermite(memory, t)
