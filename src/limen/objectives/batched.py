"""Many networks of one architecture on the same data, evaluated together.

Legend: m members, p parameters of each, n examples, k outputs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from limen.errors import InputError
from limen.objectives import mlp
from limen.objectives.memory import graph_bytes
from limen.objectives.supervised import Supervised
from limen.objectives.traced import traceable
from limen.types import Batch, LinearOperator, Need, Objective, Point, State

Both = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(outputs (m, k, n), targets) to the losses (m,) and their derivatives in the outputs (m, k, n)."""


class Batched(Objective):
    """The landscape of one `Supervised` seen from m places at once: w is (m, p), a loss is (m,).

    The sums are those of the single objective in another order: losses and gradients agree to rounding, not to the
    last bit. A member's numbers never enter another's.

    Attributes:
        member: the single landscape, where curvature is asked for.
        kernel: "mlp", matrix products by hand for plain tanh and ReLU networks under mse or ce, or "vmap".

    Raises:
        InputError: such networks cannot be evaluated together.

    Examples:
        >>> x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
        >>> line = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False)).double()
        >>> together = Batched(Supervised(line, x, 3 * x, "mse"))
        >>> w = torch.tensor([[3.0], [1.0]], dtype=torch.float64)
        >>> [round(loss, 4) for loss in together.at(State(w, torch.zeros(2))).loss.tolist()]
        [0.0, 0.8571]
    """

    def __init__(self, member: Supervised) -> None:
        if reason := unfit(member):
            raise InputError(f"these networks cannot advance together: {reason}. Use --ensemble off.")
        self.member, self.n = member, member.n
        self.dim, self.dtype, self.device = member.dim, member.dtype, member.device
        self.inputs, self.targets = member.inputs, member.loss.targets.to(member.device)
        self._layers = _layers(member)
        self.kernel = "vmap" if self._layers is None else "mlp"
        if member.test is not None:
            assert isinstance(member.test, Supervised)
            self.test: Batched | None = Batched(member.test)

    def at(self, state: State, batch: Batch | None = None, need: Need = Need.LOSS) -> BatchedPoint:
        """Return the points at `state.w` (m, p), on the full data.

        Raises:
            InputError: a batch is given, or w has another shape.
        """
        if batch is not None:
            raise InputError("members that advance together see the full batch; got another one.")
        if state.w.ndim != 2 or state.w.shape[1] != self.dim:
            raise InputError(f"expected parameters of shape (m, {self.dim}), got {tuple(state.w.shape)}.")
        return BatchedPoint(self, state, need)

    def start(self) -> Tensor:
        """Return the member's own parameters (p,)."""
        return self.member.start()

    def describe(self) -> dict[str, Any]:
        """Return what identifies the landscape of a member."""
        return self.member.describe()

    @torch.no_grad()
    def values(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return losses (m,) and outputs (m, n, …) at w (m, p)."""
        if self._layers is None:
            with sdpa_kernel(SDPBackend.MATH):
                losses, outputs = vmap(self._loss_of)(w)
            return losses, outputs
        outputs = mlp.forward(self._layers, w, self._columns)[-1]
        losses, _ = LOSSES[self.member.loss.name](outputs, self._target_columns)
        return losses / self.n, outputs.transpose(1, 2)

    @torch.no_grad()
    def hits(self, outputs: Tensor) -> Tensor | None:
        """Return how many examples (m,) are classified correctly; None where that is undefined."""
        correct = self.member.loss.correct
        if correct is None:
            return None
        if self._layers is None:
            return vmap(lambda f: correct(f, self.targets))(outputs)
        return (outputs.argmax(2) == self._labels).sum(1)

    @torch.no_grad()
    def gradients(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return losses (m,), outputs (m, n, …) and gradients (m, p) at w (m, p)."""
        if self._layers is None:
            with sdpa_kernel(SDPBackend.MATH):
                grads, (losses, outputs) = vmap(grad_and_value(self._loss_of, has_aux=True))(w)
            return losses, outputs, grads
        found = mlp.forward(self._layers, w, self._columns)
        losses, slopes = LOSSES[self.member.loss.name](found[-1], self._target_columns)
        grads = mlp.backward(self._layers, w, found, slopes.div_(self.n))
        return losses / self.n, found[-1].transpose(1, 2), grads

    @functools.cached_property
    def member_bytes(self) -> int:
        """Bytes of data and activations that each further member takes, about: its test data are counted as well."""
        few = min(self.n, 8)
        point = self.member.point(self.start())
        graph = graph_bytes(lambda: point.gradient(slice(0, few)), [self.inputs, self.targets])
        test = 0 if self.test is None else self.test.inputs.nbytes
        return self.inputs.nbytes + test + graph * self.n // few

    def _outputs_of(self, w: Tensor) -> Tensor:
        output: Tensor = functional_call(self.member.module, self.member.unflatten(w), (self.inputs,))
        return output

    def _loss_of(self, w: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self._outputs_of(w)
        return self.member.loss.total(outputs, self.targets) / self.n, outputs

    @functools.cached_property
    def _columns(self) -> Tensor:
        inputs = self.inputs.flatten(1)
        return torch.cat([inputs, inputs.new_ones(self.n, 1)], dim=1).t().contiguous()

    @functools.cached_property
    def _target_columns(self) -> Tensor:
        return self.targets.t().contiguous() if self.targets.is_floating_point() else self.targets

    @functools.cached_property
    def _labels(self) -> Tensor:
        return self.targets.argmax(1) if self.targets.is_floating_point() else self.targets


class BatchedPoint(Point):
    """Where m members stand, evaluated lazily and once; every value has their dimension in front."""

    def __init__(self, objective: Batched, state: State, need: Need) -> None:
        self.objective: Batched = objective
        self.state, self.need = state, need
        self._known = Need.NOTHING

    @property
    def loss(self) -> Tensor:
        """The mean losses (m,)."""
        self._have(Need.LOSS)
        return self._loss

    @functools.cached_property
    def accuracy(self) -> Tensor:
        """Fractions of examples classified correctly (m,); nan where the loss does not define them."""
        hits = self.objective.hits(self.predictions)
        if hits is None:
            return torch.full_like(self.loss, math.nan)
        return hits.to(self.state.w.dtype) / self.objective.n

    @property
    def grad(self) -> Tensor:
        """The gradients of the mean losses (m, p)."""
        self._have(Need.GRAD)
        return self._grad

    @property
    def predictions(self) -> Tensor:
        """The networks' outputs on the data (m, n, …)."""
        self._have(Need.LOSS)
        return self._predictions

    def curvature(self, subset: int | None = None) -> LinearOperator:
        """Refuse: a Hessian is one member's."""
        raise InputError(f"curvature: {ALONE}")

    def d3(self, u: Tensor, v: Tensor) -> Tensor:
        """Refuse: a third derivative is one member's."""
        raise InputError(f"d3: {ALONE}")

    def _have(self, need: Need) -> None:
        if need in self._known:
            return
        objective, w = self.objective, self.state.w
        if Need.GRAD in (need | self.need):
            self._loss, self._predictions, self._grad = objective.gradients(w)
            self._known |= Need.LOSS | Need.GRAD
        else:
            self._loss, self._predictions = objective.values(w)
            self._known |= Need.LOSS


ALONE = "expected the point of one member, got those of many. Ask its own objective at its own parameters."


def unfit(member: Supervised) -> str | None:
    """Return why networks such as this one cannot be evaluated together; None if they can."""
    if member.ghost_batches:
        return "examples influence each other (BatchNorm)"
    if not isinstance(member.loss_given, str):
        return "the loss is one's own"
    if not traceable(member.module):
        return "the network is one's own"
    return None


def _layers(member: Supervised) -> list[mlp.Layer] | None:
    """Return the network's layers if there is a pass by hand for them and for the loss."""
    places, first = {}, 0
    for name, x in member.unflatten(member.start()).items():
        places[name] = slice(first, first + x.numel())
        first += x.numel()
    layers = mlp.layers_of(member.module, places)
    if layers is None or member.loss.terms > 1 or member.loss.name not in LOSSES:
        return None
    dimensions = 2 if member.loss.name == "mse" else 1  # one row of outputs, or one label, an example
    flat = member.inputs.flatten(1).shape[1] == layers[0].shape[1] and member.inputs.is_floating_point()
    return layers if flat and member.loss.targets.ndim == dimensions else None


def _half_squares(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    residuals = outputs - targets
    return 0.5 * residuals.square().sum((1, 2)), residuals


def _cross_entropies(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logs = F.log_softmax(outputs, dim=1)
    index = labels.expand(len(outputs), 1, -1)
    losses = -logs.gather(1, index).sum((1, 2))
    return losses, logs.exp_().scatter_add_(1, index, logs.new_full((), -1.0).expand(index.shape))


LOSSES: dict[str, Both] = {"mse": _half_squares, "ce": _cross_entropies}
