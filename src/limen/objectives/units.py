"""One hidden layer between numbers: f(x) = Σⱼ v_j σ(u_j x), without biases."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.errors import InputError, nearest
from limen.objectives.analytic import Regression


@dataclass(frozen=True)
class Activation:
    """A function with its first derivative.

    Attributes:
        value: σ.
        slope: σ'.
        slope_at_zero: σ'(0).
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    slope_at_zero: float


def _gelu_slope(z: Tensor) -> Tensor:
    """Return Φ(z) + zφ(z)."""
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + torch.erf(z / math.sqrt(2))) + z * density


def _silu_slope(z: Tensor) -> Tensor:
    gate = torch.sigmoid(z)
    return gate * (1 + z * (1 - gate))


ACTIVATIONS = {
    "tanh": Activation(torch.tanh, lambda z: 1 - torch.tanh(z).square(), 1.0),
    "linear": Activation(lambda z: 1 * z, torch.ones_like, 1.0),
    "sin": Activation(torch.sin, torch.cos, 1.0),
    "erf": Activation(
        torch.erf, lambda z: 2 / math.sqrt(math.pi) * torch.exp(-z.square()), 1.1283791670955126
    ),
    "gelu": Activation(torch.nn.functional.gelu, _gelu_slope, 0.5),
    "silu": Activation(torch.nn.functional.silu, _silu_slope, 0.5),
}
"""Activations with σ(0) = 0 and a second derivative; each makes a neuron's zero weights an invariant set."""


def activation(name: str) -> Activation:
    """Return the activation of that name.

    Raises:
        InputError: there is none.
    """
    if name not in ACTIVATIONS:
        raise InputError(
            f"unknown activation {name!r}.{nearest(name, ACTIVATIONS)} "
            f"With σ(0) = 0 and two derivatives there are: {', '.join(ACTIVATIONS)}."
        )
    return ACTIVATIONS[name]


class Units(Regression):
    """L(w) = Σᵢ(f(xᵢ) − yᵢ)²/2N with f(x) = Σⱼ v_j σ(u_j x); w = (u₁…u_k, v₁…v_k), p = 2k.

    Attributes:
        inputs: x (N,).
        targets: y (N,).
        sigma: the activation.
    """

    def __init__(
        self, inputs: Tensor, targets: Tensor, units: int = 1, activation_name: str = "tanh"
    ) -> None:
        if inputs.ndim != 1 or inputs.shape != targets.shape:
            raise InputError(
                f"inputs and targets must be (N,), got {tuple(inputs.shape)} and {tuple(targets.shape)}."
            )
        super().__init__(2 * units, inputs.dtype)
        self.inputs, self.targets, self.count = inputs, targets, len(inputs)
        self.units, self.sigma = units, activation(activation_name)
        self.parameters = {"units": units, "activation": activation_name, "examples": len(inputs)}

    def predict(self, w: Tensor) -> Tensor:
        """Return f(x) (…, N)."""
        u, v = w[..., : self.units, None], w[..., self.units :, None]
        return (v * self.sigma.value(u * self.inputs)).sum(-2)

    def pull(self, w: Tensor, e: Tensor) -> Tensor:
        """Return Jᵀe / N."""
        u, v = w[..., : self.units, None], w[..., self.units :, None]
        z, e = u * self.inputs, e[..., None, :]
        first = (v * self.sigma.slope(z) * self.inputs * e).sum(-1)
        return torch.cat([first, (self.sigma.value(z) * e).sum(-1)], dim=-1) / self.count
