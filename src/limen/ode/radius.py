"""The spectral radius of the Hessian along a trajectory, by a warm nonlinear power iteration.

Source: Sommeijer, Shampine & Verwer, *RKC: an explicit solver for parabolic PDEs*, J. Comput. Appl. Math. 88
(1998), §3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.ode.integrator import Gradient

MOST = 30
"""Products in one estimate."""


@dataclass(frozen=True)
class Radius:
    """An estimate of the largest |λ| of the Hessian, from below.

    Attributes:
        value: ‖Hv‖ for the unit vector v of the last product.
        vector: Hv/‖Hv‖ (p,), to start the next estimate from.
    """

    value: float
    vector: Tensor


def difference_product(field: Gradient, theta: Tensor, g: Tensor, v: Tensor) -> Tensor:
    """Return Hv ≈ (g(θ + εv) − g(θ))/ε with ε = √u ‖θ‖/‖v‖: one gradient, relative error of order √u."""
    root = math.sqrt(torch.finfo(theta.dtype).eps)
    size = float(theta.norm()) or 1.0
    epsilon = root * size / float(v.norm())
    return (field(theta + epsilon * v) - g) / epsilon


def spectral_radius(field: Gradient, theta: Tensor, g: Tensor, warm: Radius, tol: float) -> Radius:
    """Iterate v ← Hv/‖Hv‖ until two values agree to `tol`; one product where `warm` still fits.

    Args:
        field: the gradient.
        theta: where (p,).
        g: the gradient there (p,).
        warm: the last estimate nearby; of value 0 if there is none.
        tol: relative agreement.

    Returns:
        The estimate; of value 0 where the Hessian is zero along the way, nan where a product was not finite.
    """
    value, v = warm.value, warm.vector
    for _ in range(MOST):
        product = difference_product(field, theta, g, v)
        before, value = value, float(product.norm())
        if value == 0 or not math.isfinite(value):
            return Radius(value, warm.vector)
        v = product / value
        if abs(value - before) <= tol * value:
            break
    return Radius(value, v)
