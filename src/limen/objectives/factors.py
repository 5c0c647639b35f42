"""Products of two factors: the diagonal two-layer linear network, and one product of two vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limen.objectives.analytic import Regression


class Factors(Regression):
    """L(w) = Σᵢ(uᵢvᵢ − sᵢ)²/2N; w = (u, v), p = 2n: each mode i is a network of two weights.

    It is the two-layer linear network on whitened inputs once its layers are aligned with the singular vectors of the
    correlation XᵀY, whose singular values are s (Saxe, McClelland, Ganguli 2014); white noise of the labels stays
    white in these coordinates.

    Attributes:
        targets: s (n,).
        count: N, the number of examples.
    """

    def __init__(self, targets: Tensor, count: int = 1) -> None:
        super().__init__(2 * len(targets), targets.dtype)
        self.targets, self.count, self.modes = targets, count, len(targets)
        self.parameters = {"modes": self.modes, "examples": count}

    def predict(self, w: Tensor) -> Tensor:
        """Return uv (…, n)."""
        return w[..., : self.modes] * w[..., self.modes :]

    def pull(self, w: Tensor, e: Tensor) -> Tensor:
        """Return (ve, ue) / N."""
        u, v = w[..., : self.modes], w[..., self.modes :]
        return torch.cat([v * e, u * e], dim=-1) / self.count

    def descend_(self, u: Tensor, v: Tensor, shift: Tensor, rate: float) -> None:
        """Take a step of descent in place with targets s + shift: (u, v) ← (u, v) − rate·(ve, ue), e = uv − s − shift.

        `rate` is η/N; u, v and shift are (…, n), and shift is overwritten.
        """
        missing = shift.add_(self.targets).addcmul_(u, v, value=-1)
        pull = missing * v
        v.addcmul_(u, missing, value=rate)
        u.add_(pull, alpha=rate)


class Product(Regression):
    """L(w) = f²/2 with f = u·v/√m, u and v in R^m; w = (u, v): the smallest network with a catapult.

    Under gradient descent f and the sharpness of the tangent kernel λ = (‖u‖² + ‖v‖²)/m are a closed system
    (Lewkowycz et al. 2020, eqs. 6 and 7): f⁺ = f(1 − ηλ + η²f²/m), λ⁺ = λ + (ηf²/m)(ηλ − 4).

    Attributes:
        width: m.
    """

    def __init__(self, width: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(2 * width, dtype)
        self.width, self.count, self.targets = width, 1, torch.zeros(1, dtype=dtype)
        self.parameters = {"width": width}

    def predict(self, w: Tensor) -> Tensor:
        """Return f (…, 1)."""
        f: Tensor = (w[..., : self.width] * w[..., self.width :]).sum(-1, keepdim=True)
        return f / math.sqrt(self.width)

    def pull(self, w: Tensor, e: Tensor) -> Tensor:
        """Return e∇f."""
        return torch.cat([w[..., self.width :], w[..., : self.width]], dim=-1) * (e / math.sqrt(self.width))

    def kernel(self, w: Tensor) -> Tensor:
        """Return λ = ‖∇f‖² (…): the sharpness where f = 0."""
        return w.square().sum(-1) / self.width
