"""Numerical differentiation formulas of order 1 to 5 with Newton's method by conjugate gradients.

Legend: p parameters, k order, h step, c = h/α_k, H the Hessian, d = ∇ᵏ⁺¹y the correction of the predictor.
Sources: Shampine & Reichelt, *The MATLAB ODE suite*, SIAM J. Sci. Comput. 18 (1997); Brown & Hindmarsh, *Matrix-free
methods for stiff systems of ODEs*, SIAM J. Numer. Anal. 23 (1986) for Newton-Krylov with difference products.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.errors import InputError
from limen.ode import differences as formulas
from limen.ode.integrator import Gradient, Integrator, Ledger, Memory, StalledError, check
from limen.ode.radius import difference_product
from limen.ode.recycle import Preconditioner, Solve, solve

HIGHEST = 5
NEWTON = 4
"""Iterations before the step is halved."""
ACCEPT, LINEAR = 0.1, 0.03
"""Errors of Newton's method and of the linear solver, relative to the tolerance of a step."""
MOST_PRODUCTS = 40
"""In one solve; 14 is the most seen on smooth networks, and a kink in the way makes a solve useless."""
UNCHECKED = 8
"""Steps in a row whose nonlinear residual is predicted rather than computed, at most."""


@dataclass(frozen=True)
class NDF(Integrator):
    """Variable order and step; for stiff flows at tight tolerances.

    Each step solves d + ψ + c g(y_pred + d) = 0 for the correction d. Newton's systems (I + cH) δ = r are solved by
    conjugate gradients, with products by one forward difference each. The local error is ERROR[k] d, held below
    rtol‖θ‖; it steers step and order. The difference polynomial answers between steps.

    Whether one Newton iteration was enough is told from the curvature of the last ones, ‖next residual‖ = κc‖δ‖²,
    and found out by a gradient where that is not clearly so, after every change of h and at least every few steps.

    Attributes:
        rtol: bound on the local error of a step, relative to ‖θ‖.
        max_order: 1 to 5.
        fixed: take steps of this length at max_order and accept them all (for tests of the order; the memory
            must then hold the differences of that order).
        recycle: pairs (v, Hv) of earlier solves to precondition with (`recycle.Preconditioner`); 20 save a sixth
            to a fifth of the gradients on large networks, but old pairs leave an error of one sign in every step,
            which a landscape with negative curvature amplifies. 0 is plain conjugate gradients.
    """

    rtol: float = 1e-5
    max_order: int = HIGHEST
    fixed: float | None = None
    recycle: int = 0
    name = "ndf"

    def __post_init__(self) -> None:
        if not 1 <= self.max_order <= HIGHEST:
            raise InputError(f"max_order: expected 1 to {HIGHEST}, got {self.max_order}.")

    def init(
        self, field: Gradient, theta: Tensor, t: float = 0.0, *, gradient: Tensor | None = None
    ) -> Memory:
        """Return the memory at (t, θ): order 1, no step yet."""
        check(theta, self.rtol)
        D = torch.zeros(self.max_order + 3, len(theta), dtype=theta.dtype, device=theta.device)
        D[0] = theta
        D[1] = -(field(theta) if gradient is None else gradient)  # times h, once there is one
        return {
            "t": t, "earliest": t, "D": D, "h": 0.0, "order": 1, "equal": 0, "size": float(theta.norm()),
            "curvature": math.inf, "unchecked": 0, "radius": 0.0, "V": D[:0].clone(), "HV": D[:0].clone(),
        }  # fmt: skip

    def at(self, memory: Memory, t: float) -> Tensor:
        """Return the difference polynomial at t."""
        D: Tensor = memory["D"]
        if t == memory["t"]:
            return D[0].clone()
        return formulas.interpolated(D, memory["order"], (t - memory["t"]) / memory["h"])

    def step(self, field: Ledger, memory: Memory, t_end: float) -> Memory:
        """Return the memory after one accepted step."""
        t, D = memory["t"], memory["D"]
        if memory["h"] == 0:
            memory = self._begin(field, memory, t_end)
            D = memory["D"]
        k, h, equal = memory["order"], memory["h"], memory["equal"]
        size = memory["size"]
        tol = self.rtol * size
        slope = float(D[1].norm()) / h
        work = memory
        failures = 0
        while True:
            found, work = self._correct(field, work | {"D": D, "h": h, "order": k}, tol)
            factor = 0.5
            reason = "Newton's method does not converge"
            if found is not None:
                measure = formulas.ERROR[k] * float(found.norm()) / tol
                if measure <= 1 or self.fixed:
                    break
                factor = min(0.9, max(0.2, 0.8 * measure ** (-1 / (k + 1))))
                reason = "error too large"
            failures += 1
            field.reject(D[0], t, h, reason, slope)
            if failures > 1 and k > 1 and not self.fixed:
                k -= 1
            D, h, equal = formulas.rescaled(D, k, factor), h * factor, 0
        field.accept(measure * tol, h * work["radius"])
        D = formulas.extended(D, k, found)
        new = work | {"t": t + h, "earliest": t, "D": D, "h": h, "order": k, "equal": equal + 1}
        new["size"] = max(size, float(D[0].norm()))
        return new if self.fixed or equal < k else self._change(new, measure, tol)

    def _begin(self, field: Ledger, memory: Memory, t_end: float) -> Memory:
        """Choose the first step, for which the error of order 1, h²‖y''‖/2 with y'' = Hg, is a quarter of tolerance."""
        D, t = memory["D"], memory["t"]
        g = -D[1]
        slope = float(g.norm())
        if not math.isfinite(slope):
            raise StalledError(
                f"the gradient is not finite at t = {t:.6g}: the flow has diverged.", diverged=True
            )
        size = memory["size"] or slope * (t_end - t) or 1.0
        h = t_end - t
        known: Memory = {}
        if slope > 0:
            v = g / slope
            Hv = difference_product(field, D[0], g, v)
            bend = float(Hv.norm())
            if math.isfinite(bend):
                known = {"radius": bend, "V": v[None], "HV": Hv[None]} if self.recycle else {"radius": bend}
            if bend > 0:
                h = min(h, math.sqrt(0.5 * self.rtol * size / (slope * bend)))
        h = self.fixed or h
        D = D.clone()
        D[1] *= h
        return memory | known | {"D": D, "h": h, "size": size}

    def _correct(self, field: Ledger, memory: Memory, tol: float) -> tuple[Tensor | None, Memory]:
        """Return d, or None where Newton's method fails, and the memory with what was learnt."""
        D, k, h = memory["D"], memory["order"], memory["h"]
        c = h / formulas.ALPHA[k]
        here = predicted = D[: k + 1].sum(0)
        weights = torch.tensor(formulas.HARMONIC[1 : k + 1], dtype=D.dtype, device=D.device)
        psi = (weights / formulas.ALPHA[k]) @ D[1 : k + 1]
        d, g = torch.zeros_like(psi), field(predicted)
        r, before = -torch.add(psi, g, alpha=c), math.inf
        known: Memory = {name: memory[name] for name in ("V", "HV", "radius", "curvature", "unchecked")}
        for _ in range(NEWTON):
            M = Preconditioner(known["V"], known["HV"], c)
            product = functools.partial(difference_product, field, here, g)
            solved = solve(product, c, r, M, LINEAR * tol, MOST_PRODUCTS)
            if len(solved.V) < MOST_PRODUCTS:  # else there was a kink in the way, and the products tell of it
                known |= self._learn(known, solved)
            d = d + solved.x
            length = float(solved.x.norm())
            if not solved.ok or not math.isfinite(length):
                return None, memory | known
            if known["curvature"] * c * length**2 <= ACCEPT * tol / 2 and known["unchecked"] < UNCHECKED:
                return d, memory | known | {"unchecked": known["unchecked"] + 1}
            here = predicted + d
            g = field(here)
            r = -(psi + d + c * g)
            bent = float((r - solved.residual).norm())
            known |= {"curvature": bent / (c * length**2) if length > 0 else math.inf, "unchecked": 0}
            left = float(r.norm())
            if left <= ACCEPT * tol:
                return d, memory | known
            if not left < before:  # nan is not
                break
            before = left
        return None, memory | known

    def _learn(self, known: Memory, solved: Solve) -> Memory:
        """Return the pairs to keep and the largest ‖Hv‖ among them, for the spectral radius."""
        if not solved.V:
            return {}
        V, HV = torch.stack(solved.V), torch.stack(solved.HV)
        found: Memory = {"radius": max(0.9 * known["radius"], float(HV.norm(dim=1).max()))}
        if self.recycle:
            found["V"] = torch.cat([known["V"], V])[-self.recycle :]
            found["HV"] = torch.cat([known["HV"], HV])[-self.recycle :]
        return found

    def _change(self, memory: Memory, measure: float, tol: float) -> Memory:
        """Choose the order k − 1, k or k + 1 whose next step may be longest, and rescale to it."""
        D, k = memory["D"], memory["order"]
        measures = {k: measure}
        if k > 1:
            measures[k - 1] = formulas.ERROR[k - 1] * float(D[k].norm()) / tol
        if k < self.max_order:
            measures[k + 1] = formulas.ERROR[k + 1] * float(D[k + 2].norm()) / tol
        factors = {order: math.inf if x == 0 else x ** (-1 / (order + 1)) for order, x in measures.items()}
        order = max(factors, key=factors.__getitem__)
        factor = min(10.0, 0.85 * factors[order])
        return memory | {
            "D": formulas.rescaled(D, order, factor), "h": memory["h"] * factor, "order": order, "equal": 0,
        }  # fmt: skip
