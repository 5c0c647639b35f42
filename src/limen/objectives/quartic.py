"""The quartic double well with noise that vanishes at its middle: the simplest stochastic collapse."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limen.objectives.analytic import Diffusing


class Quartic(Diffusing):
    """L(θ) = θ⁴/4 − μθ²/2 and dθ = −L'(θ) dt + ζθ dB (Chen et al. 2023, section 4); p = k = 1.

    θ = 0 is invariant. It attracts where the exponent μ − ζ²/2 of log|θ| is negative.

    Attributes:
        mu: curvature of the hump, −L''(0).
        zeta: noise, one number or as many as w (…, 1) has trajectories.
    """

    noises = 1

    def __init__(self, mu: float, zeta: Tensor | float, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(1, dtype)
        self.mu, self.zeta = mu, torch.as_tensor(zeta, dtype=dtype)
        self._level = self.zeta[..., 0] if self.zeta.ndim else self.zeta
        self._scaled = 0.0, self._level  # h, and √hζ: kept from step to step
        self.parameters = {"mu": mu, "zeta": self.zeta.tolist()}

    def value(self, w: Tensor) -> Tensor:
        """Return θ⁴/4 − μθ²/2."""
        square = w[..., 0].square()
        return square.square() / 4 - self.mu / 2 * square

    def gradient(self, w: Tensor) -> Tensor:
        """Return θ³ − μθ."""
        return w * (w.square() - self.mu)

    def diffuse(self, w: Tensor, xi: Tensor) -> Tensor:
        """Return ζθξ."""
        return self.zeta * w * xi

    def euler_(self, w: Tensor, xi: Tensor, h: float) -> None:
        """Take the step as θ ← θ(1 + hμ − hθ² + √hζξ): four passes over memory."""
        theta, growth = w[..., 0], xi[..., 0]
        if self._scaled[0] != h:
            self._scaled = h, self._level * math.sqrt(h)
        growth.mul_(self._scaled[1])
        growth.addcmul_(theta, theta, value=-h).add_(1 + h * self.mu)
        theta.mul_(growth)
