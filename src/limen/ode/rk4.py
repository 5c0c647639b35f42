"""The classical Runge-Kutta method with the published step rule of the edge-of-stability work."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.errors import InputError
from limen.ode.integrator import Gradient, Integrator, Ledger, Memory, StalledError, check, finite
from limen.ode.radius import Radius, spectral_radius


@dataclass(frozen=True)
class RK4(Integrator):
    """Order 4, steps of min(alpha/S, max_step_size), the last before t_end shortened to end there.

    S is the sharpness: `memory["sharpness"]`, which the caller sets from its last measurement (`with_sharpness`).
    Without a measurement S is the method's own estimate of the spectral radius, refreshed with every `advance`. On a
    quadratic the method is stable for alpha < 2.7853. It has no error estimate.

    Source: Cohen et al., Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability, ICLR 2021.

    Attributes:
        alpha: fraction of 1/S to step by.
        max_step_size: bound on the step.
    """

    alpha: float = 1.0
    max_step_size: float = 999.0
    rtol: float = math.nan
    name = "rk4"

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("max_step_size", self.max_step_size)):
            if not 0 < value < math.inf:
                raise InputError(f"{name}: expected a positive number, got {value}.")

    def init(
        self, field: Gradient, theta: Tensor, t: float = 0.0, *, gradient: Tensor | None = None
    ) -> Memory:
        """Return the memory at (t, θ)."""
        check(theta, 0.5)
        memory = {"t": t, "earliest": t, "y": theta.clone(), "sharpness": math.nan, "estimated_for": math.nan}
        start = gradient if gradient is not None else field(theta)
        # where the gradient is zero any direction serves
        v = start.clone() if float(start.norm()) > 0 else torch.ones_like(theta)
        return memory | {"f": start.clone(), "radius": 0.0, "vector": v}

    def with_sharpness(self, memory: Memory, sharpness: float) -> Memory:
        """Return the memory with a measured sharpness (nan: none) for the steps to come."""
        return memory | {"sharpness": sharpness}

    def step_size(self, sharpness: float) -> float:
        """Return min(alpha/S, max_step_size), and max_step_size where S ≤ 0."""
        return min(self.alpha / sharpness, self.max_step_size) if sharpness > 0 else self.max_step_size

    def step(self, field: Ledger, memory: Memory, t_end: float) -> Memory:
        """Return the memory after one step, not beyond t_end."""
        t, y = memory["t"], memory["y"]
        first = memory["f"] if memory["f"].numel() else field(y)
        known = {}
        sharpness = memory["sharpness"]
        if math.isnan(sharpness):
            if memory["estimated_for"] != t_end:
                warm = Radius(memory["radius"], memory["vector"])
                found = spectral_radius(field, y, first, warm, 0.02)
                known = {"radius": found.value, "vector": found.vector, "estimated_for": t_end}
            sharpness = known.get("radius", memory["radius"])
        h = self.step_size(sharpness)
        after = t + h
        if t_end - t <= h * (1 + 1e-12):
            h, after = t_end - t, t_end
        if after == t:
            raise StalledError(f"a step of {h:.1e} does not move the clock at t = {t:.6g}; raise alpha.")
        second = field(y - 0.5 * h * first)
        third = field(y - 0.5 * h * second)
        fourth = field(y - h * third)
        new = y - h / 6 * (first + 2 * (second + third) + fourth)
        if not finite(new):
            raise StalledError(
                f"θ is not finite after t = {t:.6g}: the flow has diverged; lower alpha.", diverged=True
            )
        field.accept(math.nan, 1.0)  # its steps are given: nothing to judge
        return memory | known | {"t": after, "earliest": after, "y": new, "f": y.new_empty(0)}

    def at(self, memory: Memory, t: float) -> Tensor:
        """Return θ at the last step's end, which is the time asked for."""
        theta: Tensor = memory["y"]
        return theta
