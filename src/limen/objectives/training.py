"""A network in training mode on minibatches: running statistics, dropout, mixed precision, several processes.

Legend: p parameters, n examples of a batch.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from limen.digest import digest
from limen.errors import InputError
from limen.models import _norm
from limen.objectives.exact_norms import exact, replace_modules
from limen.objectives.losses import BatchLoss, PerExample, of_batches, prepare, smoothed
from limen.objectives.ranks import Ranks
from limen.objectives.shared_norm import SharedNorm
from limen.objectives.training_parameters import Parameters
from limen.objectives.training_point import Network, NetworkPoint
from limen.types import AVERAGE, Batch, Need, Objective, State

Precision = Literal["fp32", "bf16", "amp"]


class Training(Objective):
    """The mean loss of a network in training mode over a minibatch, as a function of its flat parameters.

    L_B(w) = (1/n) Σ_{i∈B} ℓ(f(xᵢ; w, B), yᵢ). BatchNorm normalises by the batch and moves its running statistics:
    `point.buffers` are the buffers after the pass, and `state.buffers`, before it, stay as they are. Dropout is a
    function of `batch.seed`. The module is copied and never touched. A limen network, whose BatchNorm keeps no
    statistics, gets running ones here.

    Where `torch.distributed` is initialised each process sees its share of every batch, and loss, accuracy,
    gradient, Hessian-vector products and BatchNorm's statistics are summed over all: the numbers are those of one
    process up to rounding (and but for dropout, whose masks each process draws for itself).

    Attributes:
        test: the network in evaluation mode on the held-out data, or None.

    Args:
        module: the network; called with a batch of inputs, it returns outputs (n, …).
        loss: "mse", "ce" (or "soft_cross_entropy"), for labels as well as one-hot or soft targets, or a function
            (outputs, targets) that returns one loss an example.
        evaluation: held-out (inputs, targets), inputs as the network takes them.
        eval_batch_size: held-out examples that go through at once.
        device: where to compute (default: where the module is).
        dtype: of the parameters (default: the module's).
        precision: "fp32" for the parameters' own type, "bf16" or "amp" for bfloat16 where autocast has it.
        channels_last: whether images, and kernels within w, are laid out with channels last.
        label_smoothing: s of (1 − s)·y + s/K, in training.

    Raises:
        InputError: shapes, loss and network do not fit together.

    Examples:
        >>> x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
        >>> objective = Training(nn.Linear(1, 1, bias=False).double(), "mse")
        >>> w = torch.tensor([1.0], dtype=torch.float64)
        >>> point = objective.at(State(w, torch.zeros(())), Batch(x, 3 * x), Need.GRAD)
        >>> round(point.loss.item(), 4), round(point.grad.item(), 4)
        (0.8571, -0.8571)
    """

    def __init__(
        self,
        module: nn.Module,
        loss: str | PerExample,
        *,
        evaluation: tuple[Tensor, Tensor] | None = None,
        eval_batch_size: int = 2000,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        precision: Precision = "fp32",
        channels_last: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        if not 0 <= label_smoothing <= 1:
            raise InputError(f"label_smoothing is a fraction, from 0 to 1, got {label_smoothing}.")
        if precision not in ("fp32", "bf16", "amp"):
            raise InputError(f"precision must be fp32, bf16 or amp, got {precision!r}.")
        if eval_batch_size < 1:
            raise InputError(f"eval_batch_size must be at least 1, got {eval_batch_size}.")
        given = next(module.parameters(), torch.zeros(()))
        self.device = torch.device(device) if device is not None else given.device
        self.dtype = dtype or given.dtype
        self.ranks = Ranks.here()
        self.label_smoothing = label_smoothing
        classification = loss != "mse" or evaluation is None or not evaluation[1].is_floating_point()
        if label_smoothing and evaluation is not None:
            held_out = evaluation[1]
            if not classification or (held_out.ndim > 1 and not held_out.is_floating_point()):
                raise InputError(
                    "label_smoothing is for one class an example (n,), got held-out targets of type "
                    f"{held_out.dtype} and shape {tuple(held_out.shape)}."
                )
        self.loss: BatchLoss = of_batches(loss, classification)
        self.loss_given = loss
        copied = _replace_norms(copy.deepcopy(module).to(self.device, self.dtype), _running)
        if self.ranks.world > 1:
            _replace_norms(copied, lambda norm: SharedNorm.of(norm, self.ranks))
        self.parameters = Parameters(copied, channels_last)
        self.dim = self.parameters.dim
        self.training = _Mode(copied.train(), self, precision, channels_last)
        if evaluation is not None:
            network = _Mode(copy.deepcopy(copied).eval(), self, precision, channels_last)
            self.test = Evaluation(self, network, *evaluation, eval_batch_size)

    def at(self, state: State, batch: Batch | None = None, need: Need = Need.LOSS) -> NetworkPoint:
        """Return the point at `state.w` (p,) with `state.buffers`, on `batch`.

        Raises:
            InputError: there is no batch, or it does not fit.
        """
        if batch is None:
            raise InputError(
                "a training objective sees minibatches and has no full batch: pass batch=stream(step), or give the "
                "experiment a stream."
            )
        n = len(batch.inputs)
        if n != len(batch.targets) or n < self.ranks.world:
            raise InputError(
                f"a batch needs as many targets as inputs, and at least {self.ranks.world}: "
                f"got {n} and {len(batch.targets)}."
            )
        mine = self.ranks.share(n)
        inputs, targets = self.place(batch.inputs[mine]), self._targets(batch.targets[mine])
        network = self.training.seeded(batch.seed + self.ranks.rank)
        point = NetworkPoint(
            self, network, self.checked(state.w), state.buffers or self.buffers(), inputs, targets, n, n, need
        )
        point.batch = batch
        return point

    def start(self) -> Tensor:
        """Return the module's own parameters as one vector (p,)."""
        return self.flatten(dict(self.training.module.named_parameters()))

    def buffers(self) -> dict[str, Tensor]:
        """Return a copy of the module's own buffers by name."""
        return {name: x.clone() for name, x in self.training.module.named_buffers()}

    def flatten(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return named tensors as one vector (p,), in `parameters()` order."""
        return self.parameters.flatten(parameters)

    def unflatten(self, w: Tensor) -> dict[str, Tensor]:
        """Return views of `w` (p,) by parameter name."""
        return self.parameters.unflatten(w)

    @property
    def names(self) -> list[str]:
        """The names of the parameters in w, in its order."""
        return self.parameters.names

    def state_dict(self, state: State) -> dict[str, Tensor]:
        """Return a state_dict of copies: weights and buffers of `state`, and all else as it was given."""
        rest = self.training.module.state_dict() | dict(state.buffers)
        return self.parameters.state_dict(state.w, rest)

    def describe(self) -> dict[str, Any]:
        """Return what identifies the landscape, with digests of network, weights and held-out data."""
        start = [self.start(), *self.buffers().values()]
        return {
            "objective": type(self.training.module).__name__,
            "mode": "training",
            "loss": self.loss.name,
            "dim": self.dim,
            "dtype": str(self.dtype).removeprefix("torch."),
            "precision": self.training.precision,
            "channels_last": self.training.channels_last,
            "label_smoothing": self.label_smoothing,
            "processes": self.ranks.world,
            "network": hashlib.sha256(repr(self.training.module).encode()).hexdigest()[:16],
            "start": digest(*start)[:16],
        } | ({} if self.test is None else {"evaluation": self.test.describe()})

    def place(self, inputs: Tensor) -> Tensor:
        """Return inputs on the device, in the parameters' type where they are real."""
        return inputs.to(self.device, self.dtype if inputs.is_floating_point() else inputs.dtype)

    def checked(self, w: Tensor) -> Tensor:
        """Return `w` if it is a vector of parameters."""
        if tuple(w.shape) != (self.dim,) or w.dtype != self.dtype:
            raise InputError(
                f"expected parameters of shape ({self.dim},) and type {self.dtype}, got {tuple(w.shape)} "
                f"and {w.dtype}."
            )
        return w

    def _targets(self, targets: Tensor) -> Tensor:
        targets = self.place(targets if targets.is_floating_point() else targets.long())
        if not self.label_smoothing:
            return targets
        return smoothed(targets, self.label_smoothing, self._classes(targets), self.dtype)

    def _classes(self, targets: Tensor) -> int:
        if targets.is_floating_point():
            return targets.shape[1]
        if self.test is None:
            raise InputError(
                "label_smoothing of class labels needs held-out data, to know how many there are."
            )
        assert isinstance(self.test, Evaluation)
        return self.test.outputs[-1]


class Evaluation(Objective):
    """The mean loss of the network in evaluation mode over held-out data.

    BatchNorm uses the running statistics of the state, dropout is off, nothing moves. Where a state carries an
    average (`AVERAGE`), the average is evaluated.

    Attributes:
        n: number of examples.
        outputs: shape of one output of the network.
    """

    def __init__(
        self, training: Training, network: _Mode, inputs: Tensor, targets: Tensor, batch_size: int
    ) -> None:
        self.trained, self.network, self.batch_size = training, network, batch_size
        self.dim, self.dtype, self.device = training.dim, training.dtype, training.device
        self.n = len(inputs)
        if self.n != len(targets) or self.n < training.ranks.world:
            raise InputError(
                f"need as many held-out targets as inputs, and at least {training.ranks.world}: "
                f"got {self.n} and {len(targets)}."
            )
        self.inputs = training.place(inputs)
        self.outputs = _output_shape(network.module, self.inputs[:2])
        name = "ce" if training.loss.name == "soft_cross_entropy" else training.loss_given
        self.targets = prepare(name, targets, self.outputs, self.dtype).targets.to(self.device)
        self._mine = training.ranks.share(self.n)

    def at(self, state: State, batch: Batch | None = None, need: Need = Need.LOSS) -> NetworkPoint:
        """Return the point at the weights and running statistics of `state`, on the held-out data or on `batch`."""
        shown = state.branches.get(AVERAGE, state)
        ranks = self.trained.ranks
        if batch is None:
            inputs, targets, n = self.inputs[self._mine], self.targets[self._mine], self.n
        else:
            mine = ranks.share(len(batch.inputs))
            inputs = self.trained.place(batch.inputs[mine])
            targets, n = self.trained.place(batch.targets[mine]), len(batch.inputs)
        w, buffers = self.trained.checked(shown.w), shown.buffers or self.trained.buffers()
        point = NetworkPoint(self, self.network, w, buffers, inputs, targets, n, self.batch_size, need)
        point.batch = batch
        return point

    def start(self) -> Tensor:
        """Return the module's own parameters as one vector (p,)."""
        return self.trained.start()

    def state_dict(self, state: State) -> dict[str, Tensor]:
        """Return a state_dict of what is evaluated."""
        return self.trained.state_dict(state.branches.get(AVERAGE, state))

    def describe(self) -> dict[str, Any]:
        """Return what identifies the held-out data."""
        return {"examples": self.n, "data": digest(self.inputs, self.targets)[:16]}


class _Mode(Network):
    """A module in training or in evaluation mode."""

    def __init__(
        self, module: nn.Module, training: Training, precision: Precision, channels_last: bool, seed: int = 0
    ) -> None:
        self.module, self.precision, self.channels_last, self.seed = module, precision, channels_last, seed
        self.parameters, self.loss, self.ranks = training.parameters, training.loss, training.ranks

    def seeded(self, seed: int) -> _Mode:
        """Return the same with another seed for what the module draws."""
        other = copy.copy(self)
        other.seed = seed
        return other

    def exact(self) -> _Mode:
        """Return the same with norm layers in primitive operations."""
        other = copy.copy(self)
        shared = _replace_norms(copy.deepcopy(self.module), lambda norm: SharedNorm.of(norm, self.ranks))
        other.module = exact(shared)
        return other

    def outputs(
        self, leaves: Mapping[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor, need: Need
    ) -> Tensor:
        """Return the module's outputs."""
        if self.channels_last and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        tensors = {**leaves, **buffers}
        devices = [inputs.device] if inputs.device.type == "cuda" else []
        # the fused attention kernels have no second derivative
        kernels = sdpa_kernel(SDPBackend.MATH) if Need.CURVATURE in need else contextlib.nullcontext()
        with (
            torch.random.fork_rng(devices),
            torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.precision != "fp32"),
            kernels,
        ):
            torch.manual_seed(self.seed)
            outputs: Tensor = functional_call(self.module, tensors, (inputs,))
        for name in buffers:  # a module may put a new tensor in place of the old one
            buffers[name] = tensors[name]
        return outputs


def _running(norm: _BatchNorm) -> _BatchNorm:
    """Return running statistics for a limen BatchNorm, which keeps none; any other as it is."""
    return _norm.RunningNorm.of(norm) if isinstance(norm, _norm.BatchNorm) else norm


def _replace_norms(module: nn.Module, by: Callable[[_BatchNorm], _BatchNorm]) -> nn.Module:
    """Put `by(norm)` in the place of every BatchNorm in `module`."""
    return replace_modules(module, lambda part: by(part) if isinstance(part, _BatchNorm) else part)


def _output_shape(module: nn.Module, inputs: Tensor) -> tuple[int, ...]:
    """Return the shape of one output, or say in one sentence why there is none."""
    name, shape = type(module).__name__, tuple(inputs.shape)
    try:
        with torch.no_grad():
            outputs = module(inputs)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{name} does not take inputs of shape {shape[1:]}: {reason}") from error
    if not isinstance(outputs, torch.Tensor) or outputs.shape[:1] != inputs.shape[:1]:
        got = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise InputError(f"{name} must return one tensor with a row an example, ({shape[0]}, …), got {got}.")
    return tuple(outputs.shape[1:])
