"""Integrators of the gradient flow θ' = −g(θ): pure functions of a gradient field and a flat state."""

from collections.abc import Callable

from limen.ode.auto import Auto
from limen.ode.integrator import Advance, Evidence, Gradient, Integrator, Memory
from limen.ode.ndf import NDF
from limen.ode.rk4 import RK4
from limen.ode.rkc2 import RKC2

INTEGRATORS: dict[str, Callable[..., Integrator]] = {"auto": Auto, "ndf": NDF, "rkc2": RKC2, "rk4": RK4}
"""By name, as on the command line."""

__all__ = [
    "INTEGRATORS",
    "NDF",
    "RK4",
    "RKC2",
    "Advance",
    "Auto",
    "Evidence",
    "Gradient",
    "Integrator",
    "Memory",
]
