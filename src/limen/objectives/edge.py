"""The smallest landscapes with an edge of stability: quadratic regression, and a valley that sharpens."""

from __future__ import annotations

import torch
from torch import Tensor

from limen.objectives.analytic import Analytic


class QuadraticRegression(Analytic):
    """L(w) = z²/2, z = z₀ + J₀·w + wᵀQw/2 with Q = diag(ω): regression whose model is quadratic in its weights.

    Gradient descent closes on z and J = J₀ + Qw (Agarwala, Pedregosa, Pennington 2022, eqs. 4 and 5):
    z⁺ = z − ηz‖J‖² + η²z² JᵀQJ/2, J⁺ = (1 − ηzQ)J. ‖J‖² is the sharpness where z = 0.

    Attributes:
        curvatures: ω (p,).
        residual0: z₀, one number or one a trajectory (…).
        jacobian0: J₀ (…, p).
    """

    def __init__(self, curvatures: Tensor, residual0: Tensor, jacobian0: Tensor) -> None:
        super().__init__(len(curvatures), curvatures.dtype)
        self.curvatures, self.residual0, self.jacobian0 = curvatures, residual0, jacobian0
        self.parameters = {"curvatures": curvatures.tolist()}

    def predict(self, w: Tensor) -> Tensor:
        """Return z (…)."""
        return self.residual0 + ((self.jacobian0 + 0.5 * self.curvatures * w) * w).sum(-1)

    def jacobian(self, w: Tensor) -> Tensor:
        """Return J (…, p)."""
        return self.jacobian0 + self.curvatures * w

    def value(self, w: Tensor) -> Tensor:
        """Return z²/2."""
        return 0.5 * self.predict(w).square()

    def gradient(self, w: Tensor) -> Tensor:
        """Return zJ."""
        return self.predict(w)[..., None] * self.jacobian(w)


class SharpeningValley(Analytic):
    """L(x, y) = (S + y)x²/2 − αy: a valley whose sharpness S + y grows at the rate α on its floor x = 0.

    With S = 2/η gradient descent is x⁺ = −(1 + ηy)x, y⁺ = y + η(α − x²/2): self-stabilisation as reduced by Damian,
    Nichani, Lee (2023, section 4), with ‖∇S‖ = 1. Its fixed points have y = 0 and x² = 2α.

    Attributes:
        sharpness: S.
        drift: α.
    """

    def __init__(self, sharpness: float, drift: float, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(2, dtype)
        self.sharpness, self.drift = sharpness, drift
        self.parameters = {"sharpness": sharpness, "drift": drift}

    def value(self, w: Tensor) -> Tensor:
        """Return (S + y)x²/2 − αy."""
        x, y = w[..., 0], w[..., 1]
        return 0.5 * (self.sharpness + y) * x.square() - self.drift * y

    def gradient(self, w: Tensor) -> Tensor:
        """Return ((S + y)x, x²/2 − α)."""
        x, y = w[..., 0], w[..., 1]
        return torch.stack([(self.sharpness + y) * x, 0.5 * x.square() - self.drift], dim=-1)
