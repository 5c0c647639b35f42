"""Does minibatch noise draw a network onto an invariant set? The Lyapunov exponents normal to it.

Legend: p parameters, k sets, m normal dimensions of each, T steps. η rate, g_B and H_B gradient and Hessian of a
minibatch B.

Near an invariant set a normal deviation δ moves by the linear part of the rule: for plain SGD δ⁺ = (I − η H_B(θ)) δ
with θ on the set. Its leading exponent λ = lim (1/T) log ‖δ_T‖ is negative exactly where the noise attracts, though the
mean Hessian may repel: in one dimension λ = E log|1 − η h_B|.

Source: Chen, Kunin, Yamamura and Ganguli, Stochastic Collapse, NeurIPS 2023, Section 4; for several dimensions
Furstenberg and Kesten, Annals of Mathematical Statistics 31, 1960.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.collapse.sets import NormalSpaces
from limen.errors import InputError
from limen.randomness import generator
from limen.types import Dynamics, LinearOperator, Need, Objective, Point, State, Stream

BATCHES = 20
"""Of the batch means that give the standard error."""


@dataclass(frozen=True, eq=False)
class Exponents:
    """The leading Lyapunov exponent normal to each of k sets, a step.

    Attributes:
        value: mean growth of log ‖δ‖ a step (k,); negative where the set attracts.
        error: its standard error (k,), by batch means: correlated steps are averaged in 20 stretches first.
        growth: log growth of each step counted (T, k).
        drift: the greatest normal component of a minibatch gradient on the sets, as a fraction of it; rounding if
            they are invariant.
    """

    value: Tensor
    error: Tensor
    growth: Tensor
    drift: float

    @property
    def attracts(self) -> Tensor:
        """Whether each set attracts (k,): the sign of its exponent."""
        return self.value < 0


def normal_exponents(
    objective: Objective,
    dynamics: Dynamics,
    stream: Stream,
    w: Tensor,
    sets: NormalSpaces,
    *,
    steps: int,
    burn_in: int | None = None,
    still: bool = False,
    seed: int = 0,
) -> Exponents:
    """Return the Lyapunov exponents normal to k invariant sets, along training on their intersection.

    The network starts at the point of the sets nearest to `w` and is trained there by `dynamics` on the minibatches of
    `stream`, its rounding off the sets removed; or it stays, `still`, and only the minibatches change. Beside it goes a
    normal deviation of each set, whose gradient is H_B δ: one gradient and one Hessian-vector product a step serve
    all sets, as the Hessian on invariant sets maps every normal space to itself. The dynamics must be linear in
    parameters, slots and gradient jointly (SGD with momentum of either kind, weight decay and schedule): the deviation
    then carries a velocity, and the exponent is that of both together. The loss must have a Hessian on the sets: on the
    sign set of a relu unit it has none, which `SignSets.of` refuses; sets made from positions are taken as they are.

    Args:
        objective: the landscape; its minibatch gradients on the sets are tangent.
        dynamics: the rule; linear.
        stream: which minibatch each step sees.
        w: parameters (p,) near the sets.
        sets: their normal spaces.
        steps: T, counted after the burn-in.
        burn_in: steps before, in which deviations turn to their leading directions (default: T/10).
        still: whether the point stays where it is.
        seed: of the first deviations.

    Raises:
        InputError: the dynamics is not linear, the sets are not invariant, or numbers do not fit.
    """
    burn_in = steps // 10 if burn_in is None else burn_in
    if steps < BATCHES or burn_in < 0:
        raise InputError(f"expected at least {BATCHES} steps and burn_in ≥ 0, got {steps} and {burn_in}.")
    state = dynamics.init(objective, sets.project(w))
    state = state.replace(buffers=objective.buffers())
    _require_linear(dynamics, state)
    deviation = _Deviation.random(sets, state, seed)
    growth, drift = [], 0.0
    for step in range(burn_in + steps):
        point = objective.at(state, stream(step), Need.GRAD | Need.CURVATURE)
        drift = max(drift, float(sets.coordinates(point.grad).norm() / point.grad.norm().clamp_min(1e-300)))
        moved, grown = deviation.step(dynamics, point, state)
        after, _ = dynamics.step(point, state)
        if still:
            after = after.replace(w=state.w, slots=state.slots)
        state = _on(sets, after)
        deviation = moved
        if step >= burn_in:
            growth.append(grown)
        if not bool(grown.isfinite().all()):
            raise InputError(f"training on the sets diverged at step {step}: take a smaller lr.")
    if drift > 1e3 * math.sqrt(len(w)) * torch.finfo(w.dtype).eps:
        raise InputError(
            f"the sets are not invariant: a minibatch gradient on them has a normal part of {drift:.2g} of its length. "
            "A sign set needs σ(0) = 0 and no norm layer that mixes its neuron with others."
        )
    logs = torch.stack(growth)
    value, error = batch_means(logs)
    return Exponents(value, error, logs, drift)


def batch_means(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard error of a correlated series (T, …) from the means of 20 equal stretches.

    What is left over at the start, fewer than 20, enters the mean alone.

    >>> mean, error = batch_means(torch.arange(40.0) % 2)
    >>> mean.item(), error.item()
    (0.5, 0.0)
    """
    length = len(x) // BATCHES
    means = x[len(x) - BATCHES * length :].reshape(BATCHES, length, *x.shape[1:]).mean(1)
    return x.mean(0), means.std(0) / math.sqrt(BATCHES)


@dataclass(frozen=True, eq=False)
class _Deviation:
    """Normal deviations of k sets and their slots, each of length 1, as flat vectors (p,)."""

    sets: NormalSpaces
    w: Tensor
    slots: Mapping[str, Tensor]

    @classmethod
    def random(cls, sets: NormalSpaces, state: State, seed: int) -> _Deviation:
        draw = generator(seed, "lyapunov")
        coordinates = torch.randn(sets.count, sets.width, generator=draw, dtype=torch.float64).to(state.w)
        w = sets.lift(coordinates / coordinates.norm(dim=1, keepdim=True), len(state.w))
        return cls(sets, w, {name: torch.zeros_like(w) for name in state.slots})

    def step(self, dynamics: Dynamics, point: Point, state: State) -> tuple[_Deviation, Tensor]:
        """Return the deviations after a step, of length 1 again, and by what log factor (k,) they grew."""
        seen = _Linearised(point.hvp(self.w))
        after, _ = dynamics.step(seen, state.replace(w=self.w, slots=self.slots))
        parts = {name: self.sets.coordinates(x) for name, x in {"": after.w, **after.slots}.items()}
        lengths = torch.stack([x.to(torch.float64).square().sum(1) for x in parts.values()]).sum(0).sqrt()
        scaled = {name: self.sets.lift(x / lengths.to(x)[:, None], len(self.w)) for name, x in parts.items()}
        return _Deviation(self.sets, scaled.pop(""), scaled), lengths.log().cpu()


class _Linearised(Point):
    """What a dynamics is shown in place of a point: the gradient of the linear part."""

    def __init__(self, grad: Tensor) -> None:
        self._grad = grad

    @property
    def grad(self) -> Tensor:
        """H δ."""
        return self._grad

    @property
    def loss(self) -> Tensor:
        raise self._refusal()

    @property
    def accuracy(self) -> Tensor:
        raise self._refusal()

    @property
    def predictions(self) -> Tensor:
        raise self._refusal()

    def curvature(self, subset: int | None = None) -> LinearOperator:
        raise self._refusal()

    def d3(self, u: Tensor, v: Tensor) -> Tensor:
        raise self._refusal()

    def _refusal(self) -> InputError:
        return InputError(
            "a Lyapunov exponent is known for rules that ask for the gradient alone, such as sgd."
        )


def _require_linear(dynamics: Dynamics, state: State) -> None:
    """Refuse a rule that is not linear in parameters, slots and gradient."""
    draw = generator(0, "lyapunov/linear")
    x = torch.randn(len(state.w), generator=draw, dtype=torch.float64).to(state.w)

    def moved(scale: float) -> Tensor:
        slots = {name: scale * x.flip(0) for name in state.slots}
        seen = state.replace(w=scale * x, slots=slots)
        return dynamics.step(_Linearised(-2 * scale * (x + x.flip(0))), seen)[0].w - scale * x

    # so long that a gradient would be clipped
    once, thrice = moved(1e6), moved(3e6)
    if (thrice - 3 * once).norm() > 1e-4 * thrice.norm():
        raise InputError(
            f"{dynamics.name}: expected a rule linear in the gradient, such as sgd with momentum and weight decay; "
            "adaptive rates and gradient clipping have no linear part of this kind."
        )


def _on(sets: NormalSpaces, state: State) -> State:
    """Return the state with the rounding off the sets removed, slots included."""
    slots = {name: sets.project(x) for name, x in state.slots.items()}
    return state.replace(w=sets.project(state.w), slots=slots)
