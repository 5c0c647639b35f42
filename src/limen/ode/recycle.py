"""Conjugate gradients on I + cH that start from what earlier solves at nearby points have learnt of H.

Legend: p dimension, m remembered pairs. The directions of earlier solves with their Hessian products, (v, Hv), make
a limited-memory BFGS preconditioner for the next solve, whatever its c: A v = v + c Hv costs nothing. H changes little
from step to step, so the large eigenvalues, which would take most of the iterations, are solved before the first.
Source: Morales & Nocedal, *Automatic preconditioning by limited memory quasi-Newton updating*, SIAM J. Optim. 10
(2000).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


class Preconditioner:
    """The inverse BFGS matrix of the pairs (vᵢ, vᵢ + c Hvᵢ), oldest first, begun from the identity.

    It is symmetric and positive definite: pairs of no clearly positive curvature are left out. With exact conjugate
    pairs it is the inverse of A = I + cH on their span.

    Args:
        V: unit directions (m, p).
        HV: their products (m, p).
        c: the factor of H.
    """

    def __init__(self, V: Tensor, HV: Tensor, c: float) -> None:
        self._pairs = []
        curvature = 1 + c * (V * HV).sum(1).double().cpu()
        for i, value in enumerate(curvature.tolist()):
            if value > 0.1:
                self._pairs.append((V[i], torch.add(V[i], HV[i], alpha=c), 1 / value))

    def __call__(self, r: Tensor) -> Tensor:
        """Return M⁻¹r (p,) by the two-loop recursion."""
        z = r.clone()
        weights = []
        for v, product, inverse in reversed(self._pairs):
            weight = inverse * float(v @ z)
            z.add_(product, alpha=-weight)
            weights.append(weight)
        for (v, product, inverse), weight in zip(self._pairs, reversed(weights), strict=True):
            z.add_(v, alpha=weight - inverse * float(product @ z))
        return z


@dataclass(frozen=True)
class Solve:
    """What a solve of (I + cH) x = r found.

    Attributes:
        x: the solution (p,).
        residual: r − (I + cH) x (p,).
        error: ‖M⁻¹ residual‖, an estimate of ‖error of x‖.
        V: the unit directions that it went along (i, p).
        HV: their products (i, p).
        ok: False where I + cH is not positive definite, a product was not finite or `most` did not do.
    """

    x: Tensor
    residual: Tensor
    error: float
    V: list[Tensor]
    HV: list[Tensor]
    ok: bool


def solve(
    product: Callable[[Tensor], Tensor],
    c: float,
    r: Tensor,
    M: Preconditioner,
    stop: float,
    most: int,
) -> Solve:
    """Solve (I + cH) x = r by preconditioned conjugate gradients from x = 0, until ‖M⁻¹ residual‖ ≤ stop.

    Args:
        product: v to Hv.
        c: factor of H.
        r: right-hand side (p,).
        M: preconditioner.
        stop: bound on the norm of the preconditioned residual.
        most: products allowed.
    """
    x, residual = torch.zeros_like(r), r
    z = M(residual)
    rz, p = float(residual @ z), z
    V: list[Tensor] = []
    HV: list[Tensor] = []
    error = float(z.norm())
    while error > stop and len(V) < most:
        length = float(p.norm())
        v = p / length
        Hv = product(v)
        Av = torch.add(v, Hv, alpha=c)
        curvature = float(v @ Av)
        if not curvature > 0:  # negative, or nan
            return Solve(x, residual, error, V, HV, False)
        V.append(v)
        HV.append(Hv)
        step = rz / (length * curvature)
        x = torch.add(x, v, alpha=step)
        residual = torch.sub(residual, Av, alpha=step)
        z = M(residual)
        error = float(z.norm())
        before, rz = rz, float(residual @ z)
        p = torch.add(z, p, alpha=rz / before)
    return Solve(x, residual, error, V, HV, error <= stop)
