"""Normalisation in primitive operations, so that derivatives of every order are right in every mode."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class BatchNorm(_BatchNorm):
    """Standardise each channel over the batch and over space, then scale and shift.

    y = weight · (x − mean) / √(var + eps) + bias, with the mean and the biased variance of *this* batch, in
    training and in evaluation alike. There are no running statistics: nothing a measurement could move.
    PyTorch's own kernel gives the same values but wrong third derivatives in forward-over-forward mode, hence
    the primitive operations.

    Shapes: (n, channels) or (n, channels, …) to the same.

    Args:
        channels: size of dimension 1.
        eps: added to the variance (PyTorch's default).
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` (n, channels, …) by its own statistics."""
        over = [d for d in range(x.ndim) if d != 1]
        per_channel = (1, -1, *[1] * (x.ndim - 2))
        centred = x - x.mean(over, keepdim=True)
        scale = self.weight.view(per_channel) * torch.rsqrt(
            centred.square().mean(over, keepdim=True) + self.eps
        )
        return centred * scale + self.bias.view(per_channel)


class RunningNorm(_BatchNorm):
    """Batch normalisation as PyTorch trains it, for inputs of any rank.

    In training y = weight · (x − mean) / √(var + eps) + bias with the batch's mean and biased variance, and running
    statistics r ← .9 r + .1 (mean, unbiased variance); in evaluation with the running ones.

    Shapes: (n, channels) or (n, channels, …) to the same.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any rank from 2 on will do."""

    @classmethod
    def of(cls, given: _BatchNorm) -> RunningNorm:
        """Return a layer with the parameters of `given` itself, and statistics of their own at 0 and 1."""
        made = cls(
            given.num_features, given.eps, affine=False, device=given.weight.device, dtype=given.weight.dtype
        )
        made.affine, made.weight, made.bias = True, given.weight, given.bias
        return made.train(given.training)


class LayerNorm(nn.Module):
    """Standardise each vector over its own features, then scale and shift.

    y = weight · (x − mean) / √(var + eps) + bias, with the mean and the biased variance over the last dimension.
    The values are those of PyTorch's kernel, whose third derivatives are wrong in forward-over-forward mode.

    Shapes: (…, features) to the same.

    Args:
        features: size of the last dimension.
        eps: added to the variance (PyTorch's default).
    """

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` (…, features) over its last dimension."""
        centred = x - x.mean(-1, keepdim=True)
        spread = torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        return centred * spread * self.weight + self.bias

    def extra_repr(self) -> str:
        """Say the size, as PyTorch's layers do."""
        return f"{self.weight.numel()}, eps={self.eps}"
