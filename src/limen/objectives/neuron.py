"""One neuron w₂σ(w₁x) under label noise: its equation through two-dimensional noise and tables of one variable.

Everything that the m examples say depends on w₁ alone. With means over the examples,

    α = ⟨σ(w₁x)y⟩/w₁, C = ⟨σ'(w₁x)xy⟩, β = ⟨σ²⟩/w₁², γ = ⟨σ'²x²⟩, δ = ⟨σσ'x⟩/w₁

the drift is (w₂(C − w₁w₂δ), w₁(α − w₁w₂β)), and the m noises have the covariance of (w₂²γ, w₁w₂δ; w₁w₂δ, w₁²β),
which is factored with g = √β, q = δ/g and κ = γ − q². None of these vanishes or cancels near w = 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limen.errors import InputError
from limen.objectives.analytic import Diffusing
from limen.objectives.units import Units

SPACING = 1 / 512
"""Of the nodes in w₁."""

REACH = 12.0
"""|w₁| up to which there are nodes; beyond, sums over the examples are taken."""

ACCURACY = 1e-6
"""Greatest error of a table, relative to the greatest value of its function."""


class Neuron(Diffusing):
    """dw = −∇L(w) dt + √η ζ Σᵢ ∇ŷᵢ(w) dBᵢ/√m, L = Σᵢ(ŷᵢ − yᵢ)²/2m, ŷᵢ = w₂σ(w₁xᵢ); p = 2, k = 2 in place of m.

    w = 0 is invariant. With w₁ = w₂ near it, log‖w‖ has the exponent σ'(0)⟨xy⟩ − ηζ²σ'(0)²⟨x²⟩/2.

    Attributes:
        units: the regression, noise apart.
        eta: the learning rate η, one number or as many as w (…, 2) has trajectories.
        zeta: the label noise ζ.
    """

    noises = 2

    def __init__(self, units: Units, eta: Tensor | float, zeta: float, table: Table | None = None) -> None:
        super().__init__(2, units.dtype)
        if units.units != 1:
            raise InputError(f"one neuron: expected a network of 1 unit, got {units.units}.")
        self.units, self.zeta = units, zeta
        self.eta = torch.as_tensor(eta, dtype=units.dtype)
        self.table = Table(units) if table is None else table
        self.parameters = {**units.parameters, "zeta": zeta, "eta": self.eta.tolist()}

    def value(self, w: Tensor) -> Tensor:
        """Return Σᵢ(ŷᵢ − yᵢ)²/2m."""
        return self.units.value(w)

    def gradient(self, w: Tensor) -> Tensor:
        """Return ∇L, by sums over the examples."""
        return self.units.gradient(w)

    def predict(self, w: Tensor) -> Tensor:
        """Return ŷ (…, m)."""
        return self.units.predict(w)

    def diffuse(self, w: Tensor, xi: Tensor) -> Tensor:
        """Return √η ζ times a vector of the covariance Σᵢ∇ŷᵢ∇ŷᵢᵀ/m, by sums over the examples."""
        _, _, g, q, kappa = moments(self.units, w[..., 0]).unbind(0)
        first = w[..., 1] * (q * xi[..., 0] + kappa.sqrt() * xi[..., 1])
        return self._scale() * torch.stack([first, w[..., 0] * g * xi[..., 0]], dim=-1)

    def euler_(self, w: Tensor, xi: Tensor, h: float) -> None:
        """Take the step with the tables: some forty passes over memory, whatever m."""
        u, v = w[..., 0], w[..., 1]
        alpha, c, g, q, kappa = self.table(u)
        scale = (self._scale() * math.sqrt(h)).squeeze(-1)
        one = xi[..., 0].mul_(scale)
        two = kappa.sqrt_().mul_(scale).mul_(xi[..., 1])
        pull = torch.mul(u, v).mul_(g)  # w₁w₂g: times q it is the drift's w₁w₂δ, times g w₁w₂β
        first = c.addcmul_(pull, q, value=-1).mul_(h).addcmul_(q, one).add_(two).mul_(v)
        second = alpha.addcmul_(pull, g, value=-1).mul_(h).addcmul_(g, one).mul_(u)
        u.add_(first)
        v.add_(second)

    def _scale(self) -> Tensor:
        """Return √η ζ, with a last dimension of 1 where η is one number a trajectory."""
        return self.eta.sqrt() * self.zeta


def moments(units: Units, u: Tensor) -> Tensor:
    """Return α, C, g, q, κ at w₁ = u (…), by sums over the examples: (5, …)."""
    x, y, sigma = units.inputs, units.targets, units.sigma
    # at 0 the quotients have the limit that a point close by has to all digits
    u = torch.where(u.abs() < 1e-9, 1e-9, u)[..., None]
    over = sigma.value(u * x) / u
    slope = sigma.slope(u * x) * x
    g = over.square().mean(-1).sqrt()
    q = (over * slope).mean(-1) / g
    kappa = (slope.square().mean(-1) - q.square()).clamp_min(0)
    return torch.stack([(over * y).mean(-1), (slope * y).mean(-1), g, q, kappa])


class Table:
    """α, C, g, q, κ as piecewise parabolas through three Chebyshev points a cell, each cell about a node.

    Attributes:
        error: the greatest found beside the sums, relative to the greatest value of each function.
    """

    def __init__(self, units: Units) -> None:
        self.units = units
        nodes = torch.arange(-round(REACH / SPACING), round(REACH / SPACING) + 1, dtype=torch.float64)
        self.middle = len(nodes) // 2
        exact = Units(units.inputs.double(), units.targets.double(), 1, str(units.parameters["activation"]))
        side = math.sqrt(3) / 4  # of a cell of width 1 about 0
        below, at, above = (moments(exact, (nodes + f) * SPACING) for f in (-side, 0.0, side))
        slope, bend = (above - below) / (2 * side), (above - 2 * at + below) / (2 * side**2)
        parts = torch.stack([at, slope, bend], dim=1).to(units.dtype)  # 5, 3, nodes
        self.parts = [[row.contiguous() for row in function] for function in parts]
        between = (nodes[:-1] + 0.5) * SPACING
        # a little to the left and the right of where two cells meet
        errors = [(self._look_up(b.to(units.dtype)).double() - moments(exact, b)).abs().amax(-1)
                  for b in (between - 0.1 * SPACING, between + 0.1 * SPACING)]  # fmt: skip
        largest = at.abs().amax(-1)
        largest[4] += largest[3].square()  # κ is a difference, and may be 0 everywhere
        self.error = float((torch.stack(errors).amax(0) / largest).max())
        if units.dtype == torch.float64 and self.error > ACCURACY:
            raise InputError(
                f"the tables of this neuron are off by {self.error:.1e}, expected at most {ACCURACY:.0e}: "
                f"inputs of magnitude {float(units.inputs.abs().max()):.3g} are too large; scale x down."
            )

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return new tensors α, C, g, q, κ at w₁ = u (…)."""
        inside = bool(u.abs().amax() < REACH)
        found = self._look_up(u) if inside else moments(self.units, u)
        alpha, c, g, q, kappa = found.unbind(0)
        return alpha, c, g, q, kappa

    def _look_up(self, u: Tensor) -> Tensor:
        place = u.reshape(-1) * (1 / SPACING)
        node = place.round()
        place.sub_(node)
        index = node.to(torch.int32).add_(self.middle)
        out = torch.empty(5, len(index), dtype=u.dtype)
        for row, (at, slope, bend) in zip(out, self.parts, strict=True):
            torch.index_select(bend, 0, index, out=row)
            row.mul_(place).add_(slope.index_select(0, index)).mul_(place).add_(at.index_select(0, index))
        out[4].clamp_min_(0)
        return out.view(5, *u.shape)
