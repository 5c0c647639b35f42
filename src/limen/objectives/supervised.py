"""A network on resident data: loss, accuracy, gradient, Hessian-vector products and third derivatives.

Legend: p parameters, n examples, k vectors; a *chunk* is `chunk_size` consecutive examples.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from math import nan
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from limen.digest import digest
from limen.errors import InputError
from limen.objectives.exact_norms import exact
from limen.objectives.losses import Loss, PerExample, prepare
from limen.objectives.memory import free_memory, graph_bytes
from limen.objectives.point import SupervisedPoint
from limen.objectives.traced import PATIENCE, SMALL, Pass, trace, traceable
from limen.types import Batch, Need, Objective, State

PHYSICAL_BATCH_SIZE = 1000
"""Examples of a chunk where the caller names no size, and of every ghost batch then."""

SMALL_GRAPH, LARGE_GRAPH = 64 << 20, 512 << 20
"""Bytes of graph up to which an unnamed size grows, and above which it shrinks: fixed numbers, as the rounding of a run
hangs on them."""

GRAPH_MEMORY = 1 << 30
"""Bytes that kept graphs may take on the CPU by default: more would not fit a laptop beside all else, and where graphs
are so large (vgg11: 1.6 GB for 1000 images) computing them again makes a product a third dearer."""


class Supervised(Objective):
    """The mean loss of a network over a data set, as a function of its flat parameters.

    L(w) = (1/n) Σᵢ ℓ(f(xᵢ; w), yᵢ). The module is copied and never touched; its dropout is off. BatchNorm uses
    the statistics of each chunk (ghost batches) and keeps no running statistics, so the loss of such a network
    depends on `physical_batch_size`; that of any other does not, beyond rounding. Parameters that do not require
    a gradient stay as they are and are not part of w.

    Attributes:
        ghost_batches: whether the output of an example depends on the others in its chunk.
        names: of the parameters in w, in its order.

    Args:
        module: the network; called with a chunk of inputs, it returns outputs (n, …).
        inputs: (n, …), kept on the device.
        targets: class labels (n,), integer, or values (n, …).
        loss: "mse", "ce", or a function (outputs, targets) that returns one loss an example.
        test: held-out (inputs, targets), or None.
        physical_batch_size: how many examples go through the network at once. None stands for 1000; where examples
            do not influence each other, for as many more as have a graph of 64 MiB, since larger matrix products are
            faster, and for no more than have one of 512 MiB. The rule knows network and data alone, never the
            memory that is free.
        graph_memory: bytes that kept gradient graphs may take (default a quarter of what is free, on the CPU
            1 GiB at the most); what is beyond is computed again for each product, with identical values.
        device: where to compute (default: where the module is).
        dtype: of parameters and data (default: the module's).

    Raises:
        InputError: shapes, loss and network do not fit together.

    Examples:
        >>> x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
        >>> objective = Supervised(nn.Linear(1, 1, bias=False).double(), x, 3 * x, "mse")
        >>> w = torch.tensor([3.0], dtype=torch.float64)
        >>> objective.point(w).loss.item(), objective.point(w).grad.tolist()
        (0.0, [0.0])
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        loss: str | PerExample,
        *,
        test: tuple[Tensor, Tensor] | None = None,
        physical_batch_size: int | None = None,
        graph_memory: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if physical_batch_size is not None and physical_batch_size < 1:
            raise InputError(f"physical_batch_size must be at least 1, got {physical_batch_size}.")
        self.physical_batch_size = physical_batch_size or PHYSICAL_BATCH_SIZE
        self._may_merge = physical_batch_size is None
        self.graph_memory = graph_memory
        self._adopt(module, device, dtype)
        self._load(inputs, targets, loss)
        self.loss_given = loss
        if test is not None:
            self.test = self._sibling(*test)

    def _adopt(self, module: nn.Module, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        trainable = [(name, x) for name, x in module.named_parameters() if x.requires_grad]
        if not trainable:
            raise InputError(f"{type(module).__name__} has no parameter that requires a gradient.")
        self.device = torch.device(device) if device is not None else trainable[0][1].device
        self.dtype = dtype or trainable[0][1].dtype
        self.module = copy.deepcopy(module).to(self.device, self.dtype).eval()
        self._has_batchnorm = _forget_running_statistics(self.module)
        self.names = [name for name, _ in trainable]
        canonical = {id(x): name for name, x in trainable}
        aliases = module.named_parameters(remove_duplicate=False)
        self._aliases = {name: canonical[id(x)] for name, x in aliases if id(x) in canonical}
        self._rest = {n: x.detach().clone() for n, x in module.state_dict().items() if n not in self._aliases}
        self._shapes = [x.shape for _, x in trainable]
        self._sizes = [x.numel() for _, x in trainable]
        self.dim = sum(self._sizes)

    def _load(self, inputs: Tensor, targets: Tensor, loss: str | PerExample) -> None:
        inputs, targets = torch.as_tensor(inputs), torch.as_tensor(targets)
        if len(inputs) != len(targets) or len(inputs) == 0:
            raise InputError(
                f"need as many targets as inputs, and some: got {len(inputs)} and {len(targets)}."
            )
        self.inputs, self.n = self._place(inputs), len(inputs)
        outputs, alone = self._try(self.inputs[:4]), self._try(self.inputs[: min(2, self.n)])
        if self._has_batchnorm and self.n % self.physical_batch_size == 1:
            self._try(self.inputs[-1:])  # one example may have no batch statistics
        # whatever else couples the examples of a chunk, a layer of the user's own perhaps, shows here
        coupled = not torch.allclose(outputs[: len(alone)], alone, rtol=1e-3, atol=1e-5, equal_nan=True)
        self.ghost_batches = self._has_batchnorm or coupled
        self._output_shape = tuple(outputs.shape[1:])
        self.loss: Loss = prepare(loss, targets, self._output_shape, self.dtype)
        self._targets = self.loss.targets.to(self.device)
        self._passes = 0
        self._traced: Pass | None = None

    def _place(self, inputs: Tensor) -> Tensor:
        return inputs.to(self.device, self.dtype if inputs.is_floating_point() else inputs.dtype)

    def _try(self, inputs: Tensor) -> Tensor:
        """Return the network's outputs, or say in one sentence why there are none."""
        name, shape = type(self.module).__name__, tuple(inputs.shape)
        try:
            with torch.no_grad():
                outputs = self.module(inputs)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            reason = str(error).splitlines()[0]
            kind = (
                "" if inputs.is_floating_point() else f" of type {str(inputs.dtype).removeprefix('torch.')}"
            )
            raise InputError(
                f"{name} does not take inputs of shape {shape[1:]}{kind}, {shape[0]} at a time: {reason}"
            ) from error
        if not isinstance(outputs, torch.Tensor) or outputs.shape[:1] != inputs.shape[:1]:
            got = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            raise InputError(
                f"{name} must return one tensor with a row an example, ({shape[0]}, …), got {got}; "
                "wrap it in a module that picks the output."
            )
        return outputs

    def _sibling(self, inputs: Tensor, targets: Tensor) -> Supervised:
        sibling = copy.copy(self)
        sibling._load(inputs, targets, self.loss_given)
        return sibling

    def start(self) -> Tensor:
        """Return the module's own parameters as one vector (p,)."""
        return self.flatten(dict(self.module.named_parameters()))

    def flatten(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return named tensors as one vector (p,), in `parameters()` order."""
        return torch.cat([parameters[name].detach().reshape(-1) for name in self.names])

    def unflatten(self, w: Tensor) -> dict[str, Tensor]:
        """Return views of `w` (p,) by parameter name."""
        pieces = torch.split(w, self._sizes)
        return {
            name: piece.view(shape)
            for name, piece, shape in zip(self.names, pieces, self._shapes, strict=True)
        }

    def state_dict(self, state: State) -> dict[str, Tensor]:
        """Return a state_dict for the user's module: `state.w`, and all else as it was given."""
        parts = self.unflatten(state.w)
        return {name: x.clone() for name, x in self._rest.items()} | {
            name: parts[canonical].clone() for name, canonical in self._aliases.items()
        }

    def describe(self) -> dict[str, Any]:
        """Return what identifies the landscape, with digests of network, weights and data.

        The chunk size is in it only where values depend on it.
        """
        ghost = {"physical_batch_size": self.physical_batch_size} if self.ghost_batches else {}
        return {
            "objective": type(self.module).__name__,
            "loss": self.loss.name,
            "dim": self.dim,
            "examples": self.n,
            "dtype": str(self.dtype).removeprefix("torch."),
            "network": hashlib.sha256(repr(self.module).encode()).hexdigest()[:16],
            "start": digest(self.start())[:16],
            "data": digest(self.inputs, self._targets)[:16],
            **ghost,
        }

    def at(self, state: State, batch: Batch | None = None, need: Need = Need.LOSS) -> SupervisedPoint:
        """Return the point at `state.w` (p,), on the full data or on `batch`."""
        return self.point(state.w, batch, need)

    def point(self, w: Tensor, batch: Batch | None = None, need: Need = Need.LOSS) -> SupervisedPoint:
        """Return the point at the flat parameters `w` (p,)."""
        if tuple(w.shape) != (self.dim,):
            raise InputError(f"expected parameters of shape ({self.dim},), got {tuple(w.shape)}.")
        if w.dtype != self.dtype:
            raise InputError(
                f"expected parameters of type {self.dtype}, got {w.dtype}; use w.to({self.dtype})."
            )
        if batch is None:
            return SupervisedPoint(self, w.detach(), self.inputs, self._targets, need)
        if len(batch.inputs) != len(batch.targets) or len(batch.inputs) == 0:
            sizes = f"{len(batch.inputs)} and {len(batch.targets)}"
            raise InputError(f"a batch needs as many targets as inputs, and some: got {sizes}.")
        targets = prepare(self.loss_given, batch.targets, self._output_shape, self.dtype).targets
        point = SupervisedPoint(self, w.detach(), self._place(batch.inputs), targets.to(self.device), need)
        point.batch = batch
        return point

    @functools.cached_property
    def chunk_size(self) -> int:
        """How many examples go through the network at once: `physical_batch_size`, or what suits the network."""
        if not self._may_merge or self.ghost_batches or self.n <= self.physical_batch_size:
            return self.physical_batch_size
        fixed, each = self._graph_cost
        fewest, most = (int((size - fixed) / max(1.0, each)) for size in (SMALL_GRAPH, LARGE_GRAPH))
        return max(1, min(max(self.physical_batch_size, fewest), most))

    @functools.cached_property
    def _graph_cost(self) -> tuple[float, float]:
        """Estimate the bytes of a kept graph, affine in its examples, from two small ones: fixed, and each."""
        few, more = (min(self.n, size) for size in (4, 8))
        point = self.point(self.start())

        def saved(size: int) -> int:
            return graph_bytes(
                lambda: point.graph(slice(0, size)), [self.inputs, self._targets, *self.module.buffers()]
            )

        low, high = saved(few), saved(more)
        each = (high - low) / max(1, more - few)
        return low - each * few, each

    @functools.cached_property
    def exact_module(self) -> nn.Module:
        """The network with norm layers whose third derivatives are right."""
        return exact(self.module)

    @property
    def _chunk_graph_bytes(self) -> int:
        fixed, each = self._graph_cost
        return int(fixed + each * max(min(self.n, 4), min(self.chunk_size, self.n)))

    def fast_pass(self, w: Tensor) -> Pass | None:
        """Return the traced pass over all examples, once enough passes have been made for it to pay."""
        if self._passes < PATIENCE:
            self._passes += 1
            small = self.dim <= SMALL and self.n <= self.chunk_size
            ours = isinstance(self.loss_given, str) and traceable(self.module)
            if self._passes == PATIENCE and small and ours:
                self._traced = trace(self._eager_pass, w)
        return self._traced

    @torch.enable_grad()
    def _eager_pass(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        point = SupervisedPoint(self, w, self.inputs, self._targets, Need.GRAD)
        outputs, loss, grads = point.gradient(slice(0, self.n))
        hits = (
            self.loss.correct(outputs, self._targets).to(w.dtype)
            if self.loss.correct
            else w.new_full((), nan)
        )
        return loss.detach(), hits, point.flat(grads)

    def kept_chunks(self) -> int:
        """How many chunks may keep their graph within the memory budget."""
        default = free_memory(self.device) // 4
        if self.device.type == "cpu":
            default = min(default, GRAPH_MEMORY)
        budget = default if self.graph_memory is None else self.graph_memory
        return budget // max(1, self._chunk_graph_bytes)


def _forget_running_statistics(module: nn.Module) -> bool:
    """Make every BatchNorm of a private copy use batch statistics; say whether there is one."""
    found = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    for part in found:
        part.track_running_stats = False
        part.running_mean = part.running_var = part.num_batches_tracked = None
    return bool(found)
