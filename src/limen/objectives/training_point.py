"""Where a network in training or in evaluation stands: passes over chunks, with its buffers.

Legend: p parameters, n examples, k vectors; a *chunk* is a run of consecutive examples that go through at once.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.errors import InputError
from limen.objectives.evaluated import EvaluatedPoint, products
from limen.objectives.losses import BatchLoss
from limen.objectives.ranks import Ranks
from limen.objectives.training_parameters import Parameters
from limen.types import LinearOperator, Need, Objective


class Network(ABC):
    """A module in one mode, as a function of its parameters.

    Attributes:
        parameters: their names and shapes.
        loss: on batches.
        ranks: the processes that share the examples.
    """

    parameters: Parameters
    loss: BatchLoss
    ranks: Ranks

    @abstractmethod
    def outputs(
        self, leaves: Mapping[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor, need: Need
    ) -> Tensor:
        """Return the outputs (n, …) for `inputs`; buffers that the pass moves are moved in `buffers`."""

    @abstractmethod
    def exact(self) -> Network:
        """Return the same function in operations whose third derivatives are right."""


@dataclass(frozen=True)
class Graph:
    """The gradient of a chunk's share of the loss, with its graph.

    Attributes:
        leaves: the parameters it was taken in.
        grads: one tensor a parameter.
    """

    leaves: list[Tensor]
    grads: tuple[Tensor, ...]


class NetworkPoint(EvaluatedPoint):
    """One place on the landscape of a `Network`, evaluated once, in as many passes as there are chunks.

    Args:
        objective: whose point it is.
        network: the module.
        w: flat parameters (p,).
        buffers: before the pass; never changed.
        inputs: those of this process (m, …).
        targets: likewise.
        n: examples of all processes.
        chunk: how many go through at once.
        need: what will be asked.
    """

    def __init__(
        self,
        objective: Objective,
        network: Network,
        w: Tensor,
        buffers: Mapping[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        n: int,
        chunk: int,
        need: Need,
    ) -> None:
        self.objective = objective
        self.network, self.w, self.inputs, self.targets = network, w.detach(), inputs, targets
        self.n, self.chunk, self.need = n, chunk, need
        self._before = buffers

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """The module's buffers after one pass over the data."""
        self._have(Need.LOSS)
        return self._after

    def curvature(self, subset: int | None = None) -> LinearOperator:
        """Return the Hessian of the mean loss over the first `subset` examples (all if None or more).

        Raises:
            InputError: a part is asked for where several processes split the examples.
        """
        m = min(subset or self.n, self.n)
        if m < self.n and self.network.ranks.world > 1:
            raise InputError("a Hessian over part of the examples needs one process: ask for all of them.")
        return Hessian(self, m)

    @torch.enable_grad()
    def d3(self, u: Tensor, v: Tensor) -> Tensor:
        """Return ∇(uᵀHv) (p,), by a third reverse pass over each chunk."""
        out = torch.zeros_like(self.w)
        us, vs = (list(self.network.parameters.unflatten(x).values()) for x in (u, v))
        network = self.network.exact()
        for chunk in self._chunks(len(self.inputs)):
            made = self._graph_of(network, chunk)
            turned = products(made, vs, create_graph=True)
            form = torch.stack([(a * b).sum() for a, b in zip(us, turned, strict=True)]).sum()
            if form.requires_grad:
                out += self.network.parameters.join(
                    torch.autograd.grad(form, made.leaves, materialize_grads=True)
                )
        return self.network.ranks.sum(out)

    def products(self, V: Tensor, m: int) -> Tensor:
        """Return the Hessian over the first m examples times each row of `V` (k, p)."""
        rows = [list(self.network.parameters.unflatten(v.to(self.w.dtype)).values()) for v in V]
        out = torch.zeros(len(V), len(self.w), dtype=self.w.dtype, device=self.w.device)
        for chunk in self._chunks(min(m, len(self.inputs))):
            made = self._graph(chunk)
            for row, vs in zip(out, rows, strict=True):
                row += self.network.parameters.join(products(made, vs))
        out = self.network.ranks.sum(out)
        return out if m == self.n else out * (self.n / m)

    def _chunks(self, stop: int) -> Iterator[slice]:
        for first in range(0, stop, self.chunk):
            yield slice(first, min(first + self.chunk, stop))

    def _leaves(self) -> list[Tensor]:
        return [x.detach().requires_grad_() for x in self.network.parameters.unflatten(self.w).values()]

    def _forward(
        self, network: Network, leaves: list[Tensor], chunk: slice, buffers: dict[str, Tensor], need: Need
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs on a chunk and its share of the mean loss."""
        named = dict(zip(network.parameters.names, leaves, strict=True))
        outputs = network.outputs(named, buffers, self.inputs[chunk], need)
        outputs = outputs.to(self.w.dtype)
        return outputs, network.loss.total(outputs, self.targets[chunk]) / self.n

    def _graph(self, chunk: slice) -> Graph:
        """Return the gradient of a chunk with its graph, kept where the chunk is all there is."""
        key = (chunk.start, chunk.stop)
        if key in self._kept:
            return self._kept[key]
        made = self._graph_of(self.network, chunk)
        self._keep(chunk, made)
        return made

    @torch.enable_grad()
    def _graph_of(self, network: Network, chunk: slice) -> Graph:
        leaves = self._leaves()
        _, loss = self._forward(network, leaves, chunk, self._copy(), Need.CURVATURE)
        return Graph(leaves, torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True))

    @functools.cached_property
    def _kept(self) -> dict[tuple[int, int], Graph]:
        return {}

    def _keep(self, chunk: slice, made: Graph) -> None:
        if chunk.stop - chunk.start == len(self.inputs):
            self._kept[chunk.start, chunk.stop] = made

    def _copy(self) -> dict[str, Tensor]:
        return {name: x.clone() for name, x in self._before.items()}

    def _evaluate(self, need: Need) -> None:
        """Make one pass over the data for all that was declared and is now asked."""
        losses, hits, shown, buffers = [], [], [], self._copy()
        grad: Tensor | None = None
        for chunk in self._chunks(len(self.inputs)):
            outputs, loss, grads = self._pass(chunk, buffers, need)
            losses.append(loss)
            hits.append(self.network.loss.hits(outputs, self.targets[chunk]))
            if Need.GRAD in need:
                grad = (
                    self.network.parameters.join(grads)
                    if grad is None
                    else grad.add_(self.network.parameters.join(grads))
                )
            if Need.PREDICTIONS in need:
                shown.append(outputs)
        total = torch.stack([torch.stack(losses).sum().double(), torch.stack(hits).sum()])
        loss, self._hits = self.network.ranks.sum(total)
        self._loss, self._after = loss.to(self.w.dtype), buffers
        if grad is not None:
            self._grad = self.network.ranks.sum(grad)
        if shown:
            self._predictions = torch.cat(shown)
        self._known |= need

    def _pass(
        self, chunk: slice, buffers: dict[str, Tensor], need: Need
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Return outputs, share of the loss and, where needed, its gradient, all detached."""
        with torch.set_grad_enabled(bool((Need.GRAD | Need.CURVATURE) & need)):
            leaves = self._leaves()
            outputs, loss = self._forward(self.network, leaves, chunk, buffers, need)
            grads: tuple[Tensor, ...] = ()
            if Need.CURVATURE in need:
                grads = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
                self._keep(chunk, Graph(leaves, grads))
            elif Need.GRAD in need:
                grads = torch.autograd.grad(loss, leaves, materialize_grads=True)
        return outputs.detach(), loss.detach(), grads


class Hessian(LinearOperator):
    """The Hessian of the mean loss over the first m examples at a `NetworkPoint`: Hv = ∇(gᵀv)."""

    def __init__(self, point: NetworkPoint, m: int) -> None:
        self.point, self.m = point, m
        self.n, self.dtype, self.device = len(point.w), point.w.dtype, point.w.device

    def matmat(self, V: Tensor) -> Tensor:
        """Return H v for each row v of `V` (k, p)."""
        return self.point.products(V, self.m)
