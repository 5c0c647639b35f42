"""The processes that train one network together: each sees its share of a batch, sums are explicit.

`torchrun` starts them; `Ranks.join`, or `torch.distributed.init_process_group`, is called before a network is built.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is.

    Attributes:
        rank: of this one, from 0.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Return those of the default process group; one process where there is none."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    @classmethod
    def join(cls, device: torch.device | str = "cpu") -> Ranks:
        """Form the process group that `torchrun` has prepared, if it has, and return this process's place in it."""
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        if several and distributed.is_available() and not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.device(device).type == "cuda" else "gloo")
        return cls.here()

    def share(self, n: int) -> slice:
        """Return which of n consecutive examples this process sees: shares differ by one at the most."""
        return slice(n * self.rank // self.world, n * (self.rank + 1) // self.world)

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of `x` over the processes, the same numbers on all of them; `x` may be overwritten."""
        if self.world > 1:
            distributed.all_reduce(x)
        return x

    def sum_with_gradient(self, x: Tensor) -> Tensor:
        """Return the sum of `x` over the processes, differentiable: a gradient is summed likewise."""
        return x if self.world == 1 else _summed(x)


class _Sum(torch.autograd.Function):
    """y = Σ_ranks x. The loss is a sum over the ranks, so x̄ = Σ_ranks ȳ."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        """Return the sum."""
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        """Return the sum of the gradients."""
        return _summed(grad.contiguous())


def _summed(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total
