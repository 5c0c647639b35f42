"""Batch normalisation in primitive operations: over several processes, and right in its third derivatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from limen.objectives.ranks import Ranks


class SharedNorm(_BatchNorm):
    """BatchNorm by mean and variance over the examples of all processes, as one process would have them.

    Sums are reduced with their gradient, of every order, so that gradients and Hessian-vector products are those of the
    whole batch too. Running statistics are the same on all processes. In one process the values and two derivatives are
    those of PyTorch's kernel; the third derivative, which that kernel has wrong, is right.

    Shapes: (n, channels) or (n, channels, …) to the same, n of this process.
    """

    ranks: Ranks

    @classmethod
    def of(cls, given: _BatchNorm, ranks: Ranks) -> SharedNorm:
        """Return a layer with the parameters and buffers of `given` itself."""
        made = cls(
            given.num_features,
            given.eps,
            given.momentum,
            affine=given.affine,
            track_running_stats=given.track_running_stats,
            device="meta",
        )
        made.weight, made.bias, made.ranks = given.weight, given.bias, ranks
        for name, buffer in given.named_buffers():
            setattr(made, name, buffer)
        return made.train(given.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` by all processes' batch in training, by the running statistics in evaluation."""
        if not self.training and self.track_running_stats:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        over = [d for d in range(x.ndim) if d != 1]
        per_channel = (1, -1, *[1] * (x.ndim - 2))
        count = self.ranks.sum(torch.tensor(x.numel() / x.shape[1], dtype=torch.float64, device=x.device))
        mean = self.ranks.sum_with_gradient(wide.sum(over)) / count.to(wide.dtype)
        centred = wide - mean.view(per_channel)
        var = self.ranks.sum_with_gradient(centred.square().sum(over)) / count.to(wide.dtype)
        if self.track_running_stats:
            self._follow(mean.detach(), var.detach(), count)
        scale = torch.rsqrt(var + self.eps)
        if not self.affine:
            return (centred * scale.view(per_channel)).to(x.dtype)
        scaled = centred * (self.weight * scale).view(per_channel) + self.bias.view(per_channel)
        return scaled.to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        """Move the running statistics as PyTorch does, towards the mean and the unbiased variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var * (count / (count - 1)).to(var.dtype), share)
