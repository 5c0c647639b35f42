"""Norm layers in primitive operations: PyTorch's kernels have right values and two right derivatives, and no third."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from limen.models import _norm
from limen.objectives.shared_norm import SharedNorm


def exact(module: nn.Module) -> nn.Module:
    """Return a copy whose norm layers are differentiable three times, with parameters of the same names.

    LayerNorm, and BatchNorm and InstanceNorm that use the statistics of their input. Layers that use running
    statistics are affine, and stay; so does GroupNorm, whose kernel is composed.
    """
    return replace_modules(copy.deepcopy(module), _exact)


def replace_modules(module: nn.Module, by: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Put `by(part)` in the place of every part of `module`, wherever it is registered; return `module`, or its own."""
    made: dict[nn.Module, nn.Module] = {part: by(part) for part in module.modules()}
    for parent in list(module.modules()):
        for name, part in parent._modules.items():  # named_children tells a shared part once
            if part is not None and made[part] is not part:
                setattr(parent, name, made[part])
    return made[module]


def _exact(part: nn.Module) -> nn.Module:
    match part:
        case _norm.BatchNorm() | _norm.LayerNorm() | SharedNorm():
            return part
        case nn.LayerNorm():
            return _LayerNorm(part)
        case _InstanceNorm() if part.training or part.running_mean is None:
            return _Standardise(part, per_example=True)
        case _BatchNorm() if part.running_mean is None:
            return _Standardise(part, per_example=False)
    return part


class _LayerNorm(nn.Module):
    """y = weight · (x − mean) / √(var + eps) + bias over the last dimensions."""

    def __init__(self, given: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = given.weight, given.bias, given.eps
        self.over = [-1 - d for d in range(len(given.normalized_shape))]

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` over its last dimensions."""
        centred = x - x.mean(self.over, keepdim=True)
        y = centred * torch.rsqrt(centred.square().mean(self.over, keepdim=True) + self.eps)
        y = y if self.weight is None else y * self.weight
        return y if self.bias is None else y + self.bias


class _Standardise(nn.Module):
    """y = weight · (x − mean) / √(var + eps) + bias for each channel, over space and the batch or over space alone."""

    def __init__(self, given: _BatchNorm | _InstanceNorm, *, per_example: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = given.weight, given.bias, given.eps
        self.affine, self.per_example = given.affine, per_example

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` (n, channels, …) by its own statistics."""
        over = [d for d in range(x.ndim) if d != 1 and not (self.per_example and d == 0)]
        per_channel = (1, -1, *[1] * (x.ndim - 2))
        centred = x - x.mean(over, keepdim=True)
        y = centred * torch.rsqrt(centred.square().mean(over, keepdim=True) + self.eps)
        return y * self.weight.view(per_channel) + self.bias.view(per_channel) if self.affine else y
