"""Gradient flow θ' = −∇L(θ), one tick of time a step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.errors import InputError, nearest
from limen.ode import INTEGRATORS, Integrator
from limen.types import Dynamics, HaltError, Info, Need, Objective, Point, State, Status


@dataclass(frozen=True)
class GradientFlow(Dynamics):
    """The flow that gradient descent follows while the sharpness is below 2/η: θ(t + tick) from θ(t).

    The integrator's steps are its own, not the tick's: where one reaches beyond a tick, the method's interpolant
    answers for the times on the way. What it has learnt (step, order, differences, spectral radius and its vector) is
    in `State.history`. Each step tells of its gradients, its internal steps, those rejected, those that kinks forced
    through above the tolerance, and the sum of the estimated local errors (nan for rk4, which has no estimate).

    Attributes:
        tick: time between two steps of the dynamics.
        integrator: "auto", "ndf", "rkc2" or "rk4" (see `limen.ode`).
        rtol: bound on the local error of an internal step, relative to ‖θ‖; not used by rk4.
        alpha: rk4 steps by min(alpha/S, max_step_size), S the spectral radius of the Hessian at the tick's start.
        max_step_size: see alpha.

    Examples:
        On L(w) = ½·3w² the flow is e^(−3t):

        >>> from limen.objectives import Quadratic
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> objective = Quadratic(3 * one[:, None], one)
        >>> flow = GradientFlow(tick=0.5, rtol=1e-8)
        >>> state = flow.init(objective, objective.start())
        >>> state, _ = flow.step(objective.at(state), state)
        >>> round(state.w.item() / math.exp(-1.5), 4)
        1.0
    """

    tick: float
    integrator: str = "auto"
    rtol: float = 1e-5
    alpha: float = 1.0
    max_step_size: float = 999.0
    name = "flow"
    need = Need.NOTHING
    lengthy = True
    remedy = "a smaller rtol (rk4: a smaller alpha) may converge"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tick) and self.tick > 0):
            raise InputError(f"tick must be a positive number, got {self.tick}.")
        self.method()

    def method(self) -> Integrator:
        """Return the integrator with its settings."""
        if self.integrator not in INTEGRATORS:
            known = ", ".join(INTEGRATORS)
            raise InputError(
                f"unknown integrator {self.integrator!r}.{nearest(self.integrator, INTEGRATORS)} There are: {known}."
            )
        if self.integrator == "rk4":
            return INTEGRATORS["rk4"](alpha=self.alpha, max_step_size=self.max_step_size)
        return INTEGRATORS[self.integrator](rtol=self.rtol)

    def init(self, objective: Objective, w: Tensor) -> State:
        """Return the state at time 0 at parameters `w` (p,)."""
        if w.ndim != 1:
            raise InputError(
                f"the gradient flow takes one vector of parameters (p,), got shape {tuple(w.shape)}."
            )
        return State(w, torch.zeros((), dtype=torch.float64))

    def step(self, point: Point, state: State) -> tuple[State, Info]:
        """Advance by one tick.

        Raises:
            HaltError: the flow has diverged, or its integrator cannot reach the tolerance in this precision.
        """
        objective, method = point.objective, self.method()

        def gradient(w: Tensor) -> Tensor:
            return objective.at(state.replace(w=w), need=Need.GRAD).grad

        t = float(state.t)
        begun = 0 if state.history else 1
        memory = dict(state.history) or method.init(gradient, state.w, t)
        after = method.advance(gradient, memory, t + self.tick)
        evidence = after.evidence
        if not evidence.ok:
            raise HaltError(Status.DIVERGED if evidence.diverged else Status.FAILED, evidence.why)
        info = {
            "gradients": evidence.gradients + begun,
            "substeps": evidence.steps,
            "rejections": evidence.rejections,
            "forced": evidence.forced,
            "local_error": evidence.error,
        }
        return State(after.theta, state.t + self.tick, history=after.memory), info


def make(
    *,
    tick: float,
    integrator: str = "auto",
    rtol: float = 1e-5,
    alpha: float = 1.0,
    max_step_size: float = 999.0,
) -> GradientFlow:
    """Return the gradient flow, observed every `tick`."""
    return GradientFlow(tick, integrator, rtol, alpha, max_step_size)
