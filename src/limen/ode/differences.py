"""Numerical differentiation formulas: their coefficients, and backward differences on a changing step.

Legend: k order, h step, ∇ⁱy backward differences of the solution at tₙ, tₙ − h, …
Source: Shampine & Reichelt, *The MATLAB ODE suite*, SIAM J. Sci. Comput. 18 (1997), §2.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

KAPPA = (0.0, -0.1850, -1 / 9, -0.0823, -0.0415, 0.0)
"""κ by order 0 … 5: trades some of the stability of BDF for a smaller error (Table 1)."""
HARMONIC = tuple(sum(1 / i for i in range(1, k + 1)) for k in range(6))
"""γ_k = 1 + 1/2 + … + 1/k."""
ALPHA = tuple((1 - kappa) * gamma for kappa, gamma in zip(KAPPA, HARMONIC, strict=True))
"""(1 − κ_k) γ_k; the implicit system of order k has c = h/α_k."""
ERROR = tuple(KAPPA[k] * HARMONIC[k] + 1 / (k + 1) for k in range(6))
"""The local error of order k is ERROR[k] ∇ᵏ⁺¹y."""


def basis(k: int, x: float) -> list[float]:
    """Return Π_{i<j} (x + i)/(i + 1) for j = 0 … k, the weights of ∇ʲyₙ in the interpolant at tₙ + x h.

    >>> basis(2, 0.5)
    [1.0, 0.5, 0.375]
    """
    weights = [1.0]
    for i in range(k):
        weights.append(weights[-1] * (x + i) / (i + 1))
    return weights


@functools.lru_cache(maxsize=1024)
def _rescaling(k: int, factor: float) -> tuple[tuple[float, ...], ...]:
    values = [basis(k, -i * factor) for i in range(k + 1)]
    rows = []
    for j in range(k + 1):
        signed = [(-1) ** i * math.comb(j, i) for i in range(j + 1)]
        rows.append(tuple(math.fsum(signed[i] * values[i][n] for i in range(j + 1)) for n in range(k + 1)))
    return tuple(rows)


def rescaled(D: Tensor, k: int, factor: float) -> Tensor:
    """Return the differences for the step factor·h: those of the polynomial of degree k through the last points.

    Args:
        D: rows ∇⁰y … (≥ k + 1, p); rows beyond k are set to zero.
        k: order.
        factor: new step over old.
    """
    new = torch.zeros_like(D)
    new[: k + 1] = torch.tensor(_rescaling(k, factor), dtype=D.dtype, device=D.device) @ D[: k + 1]
    return new


def interpolated(D: Tensor, k: int, x: float) -> Tensor:
    """Return the polynomial of degree k through the last points at tₙ + x h."""
    return torch.tensor(basis(k, x), dtype=D.dtype, device=D.device) @ D[: k + 1]


def extended(D: Tensor, k: int, d: Tensor) -> Tensor:
    """Return the differences one step on, where d = ∇ᵏ⁺¹y at the new point: rows 0 … k + 2."""
    new = D.clone()
    new[k + 2] = d - D[k + 1]
    new[k + 1] = d
    for i in reversed(range(k + 1)):
        new[i] += new[i + 1]
    return new
