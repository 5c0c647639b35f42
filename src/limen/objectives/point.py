"""One place on the landscape of a `Supervised`: a pass over chunks, kept graphs, Hessian-vector products.

Legend: p parameters, n examples, k vectors; a *chunk* is `chunk_size` consecutive examples.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from limen.objectives.evaluated import EvaluatedPoint, products
from limen.types import LinearOperator, Need

if TYPE_CHECKING:
    from limen.objectives.supervised import Supervised

TRACED = Need.LOSS | Need.GRAD
"""What a traced pass gives."""


@dataclass(frozen=True)
class ChunkGraph:
    """The gradient of one chunk's share of the loss, with its graph.

    Attributes:
        leaves: the parameters it was taken in.
        grads: its gradient, one tensor a parameter.
        loss: the chunk's share of the loss, detached.
        outputs: the network's outputs, detached.
    """

    leaves: list[Tensor]
    grads: tuple[Tensor, ...]
    loss: Tensor
    outputs: Tensor


class SupervisedPoint(EvaluatedPoint):
    """One place on the landscape of a `Supervised`; see `Point`."""

    def __init__(self, objective: Supervised, w: Tensor, inputs: Tensor, targets: Tensor, need: Need) -> None:
        self.objective: Supervised = objective
        self.w, self.inputs, self.targets, self.need = w, inputs, targets, need
        self.n = len(inputs)
        self._kept: dict[tuple[int, int], ChunkGraph] = {}

    def curvature(self, subset: int | None = None) -> LinearOperator:
        """Return the Hessian of the mean loss over the first `subset` examples (all if None or more)."""
        return Hessian(self, min(subset or self.n, self.n))

    @torch.enable_grad()
    def d3(self, u: Tensor, v: Tensor) -> Tensor:
        """Return ∇(uᵀHv) (p,) for two directions (p,), by a third reverse pass over each chunk."""
        out = torch.zeros_like(self.w)
        us, vs = (list(self.objective.unflatten(x).values()) for x in (u, v))
        for chunk in self.chunks(self.n):
            made = self.graph(chunk, thrice=True)
            turned = products(made, vs, create_graph=True)
            form = sum((a * b).sum() for a, b in zip(us, turned, strict=True))
            if isinstance(form, Tensor) and form.requires_grad:
                self.add_to(out, _gradients(form, made.leaves))
        return out

    def chunks(self, stop: int) -> Iterator[slice]:
        """Yield the chunks of the first `stop` examples."""
        size = self.objective.chunk_size
        for first in range(0, stop, size):
            yield slice(first, min(first + size, stop))

    @torch.enable_grad()  # a caller's own loop may well sit under no_grad
    def graph(self, chunk: slice, *, thrice: bool = False) -> ChunkGraph:
        """Evaluate one chunk with a gradient that can be differentiated again, or twice more."""
        leaves = self._leaves()
        outputs, loss = self._forward(leaves, chunk, self.objective.exact_module if thrice else None)
        grads = _gradients(loss, leaves, create_graph=True)
        return ChunkGraph(leaves, grads, loss.detach(), outputs.detach())

    @torch.enable_grad()
    def gradient(self, chunk: slice) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Return outputs, share of the loss and gradient of one chunk."""
        leaves = self._leaves()
        outputs, loss = self._forward(leaves, chunk)
        return outputs, loss, _gradients(loss, leaves)

    def kept_graph(self, chunk: slice) -> ChunkGraph:
        """Return the chunk's graph, from memory if it was kept; keep it if the budget allows."""
        key = (chunk.start, chunk.stop)
        if key in self._kept:
            return self._kept[key]
        made = self.graph(chunk)
        if len(self._kept) < self._room:
            self._kept[key] = made
        return made

    @functools.cached_property
    def _room(self) -> int:
        """How many chunks this point may keep: settled once, as keeping them changes what is free."""
        return self.objective.kept_chunks()

    def _leaves(self) -> list[Tensor]:
        return [x.detach().requires_grad_() for x in self.objective.unflatten(self.w).values()]

    def _forward(
        self, leaves: list[Tensor], chunk: slice, module: nn.Module | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs on a chunk and its share of the mean loss; of another module where one is given."""
        objective = self.objective
        parameters = dict(zip(objective.names, leaves, strict=True))
        # the fused attention kernels have no second derivative
        with sdpa_kernel(SDPBackend.MATH):
            outputs = functional_call(module or objective.module, parameters, (self.inputs[chunk],))
        return outputs, objective.loss.total(outputs, self.targets[chunk]) / self.n

    def _evaluate(self, need: Need) -> None:
        """Make one pass over the data for all that was declared and is now asked."""
        whole = self.inputs is self.objective.inputs and need == TRACED
        if whole and (fast := self.objective.fast_pass(self.w)) is not None:
            self._loss, self._hits, self._grad = fast(self.w)
            self._known |= need
            return
        w, correct = self.w, self.objective.loss.correct
        losses, hits, outputs_kept = [], [], []
        grad = torch.zeros_like(w) if Need.GRAD in need else None
        for chunk in self.chunks(self.n):
            if Need.CURVATURE in need:
                made = self.kept_graph(chunk)
                outputs, loss, grads = made.outputs, made.loss, made.grads
            elif grad is not None:
                outputs, loss, grads = self.gradient(chunk)
            else:
                with torch.no_grad():
                    outputs, loss = self._forward(self._leaves(), chunk)
                grads = ()
            if grad is not None:
                self.add_to(grad, grads)
            losses.append(loss.detach())
            if correct is not None:
                hits.append(correct(outputs.detach(), self.targets[chunk]))
            if Need.PREDICTIONS in need:
                outputs_kept.append(outputs.detach())
        self._loss = torch.stack(losses).sum()
        self._hits = torch.stack(hits).sum().to(w.dtype) if hits else torch.full_like(self._loss, torch.nan)
        if grad is not None:
            self._grad = grad
        if outputs_kept:
            self._predictions = torch.cat(outputs_kept)
        self._known |= need

    def add_to(self, out: Tensor, parts: tuple[Tensor, ...]) -> None:
        """Add one tensor a parameter to the flat vector `out` (p,), without making another one."""
        for view, part in zip(self.objective.unflatten(out).values(), parts, strict=True):
            view += part.detach()

    def flat(self, parts: tuple[Tensor, ...]) -> Tensor:
        """Return one tensor a parameter as one vector (p,)."""
        return torch.cat([x.detach().reshape(-1) for x in parts])


class Hessian(LinearOperator):
    """The Hessian of the mean loss over the first m examples at a `SupervisedPoint`, by products.

    Hv = ∇(gᵀv): one reverse pass over the kept graph of the gradient, for each vector and chunk.
    """

    def __init__(self, point: SupervisedPoint, m: int) -> None:
        self.point, self.m = point, m
        self.n, self.dtype, self.device = point.objective.dim, point.w.dtype, point.w.device

    def matmat(self, V: Tensor) -> Tensor:
        """Return H v for each row v of `V` (k, p)."""
        point = self.point
        parts = [list(point.objective.unflatten(v.to(self.dtype)).values()) for v in V]
        out = torch.zeros(len(V), self.n, dtype=self.dtype, device=self.device)
        for chunk in point.chunks(self.m):
            made = point.kept_graph(chunk)
            for row, vs in zip(out, parts, strict=True):
                point.add_to(row, products(made, vs))
        # the graphs hold shares of a mean over all examples
        return out if self.m == point.n else out * (point.n / self.m)


def _gradients(loss: Tensor, leaves: list[Tensor], *, create_graph: bool = False) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, leaves, create_graph=create_graph, materialize_grads=True)
