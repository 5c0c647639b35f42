"""Geometric Brownian motion: the equation on which a stochastic integrator shows its order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limen.objectives.analytic import Diffusing


class Geometric(Diffusing):
    """L(w) = aw²/2 and dw = −aw dt + ζw dB, whose solution is w₀ exp(−(a + ζ²/2)t + ζB(t)); p = k = 1.

    Attributes:
        rate: a.
        zeta: the noise.
    """

    noises = 1

    def __init__(self, rate: float, zeta: float, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(1, dtype)
        self.rate, self.zeta = rate, zeta
        self.parameters = {"rate": rate, "zeta": zeta}

    def value(self, w: Tensor) -> Tensor:
        """Return aw²/2."""
        return 0.5 * self.rate * w[..., 0].square()

    def gradient(self, w: Tensor) -> Tensor:
        """Return aw."""
        return self.rate * w

    def diffuse(self, w: Tensor, xi: Tensor) -> Tensor:
        """Return ζwξ."""
        return self.zeta * w * xi

    def solution(self, w0: Tensor, t: float, brownian: Tensor) -> Tensor:
        """Return w(t) from w(0) (…, 1) on the path whose Brownian motion has come to B(t) (…, 1)."""
        return w0 * torch.exp(-(self.rate + self.zeta**2 / 2) * t + self.zeta * brownian)

    def moment(self, w0: float, t: float, power: int) -> float:
        """Return E[w(t)^power]."""
        return w0**power * math.exp(power * (-self.rate + (power - 1) * self.zeta**2 / 2) * t)
