"""Lyapunov exponents normal to invariant sets, against closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from limen.collapse import PermutationSets, SignSets, normal_exponents
from limen.collapse.lyapunov import batch_means
from limen.dynamics import sgd
from limen.dynamics.schedules import Schedule
from limen.errors import InputError
from limen.objectives.training import Training
from limen.randomness import generator
from limen.symmetry import neuron_groups
from limen.types import Batch

DOUBLE = torch.float64


def line() -> Training:
    """f(x) = w x with no target but 0: a minibatch of one example has the Hessian h = x² under mse."""
    return Training(nn.Linear(1, 1, bias=False).to(DOUBLE), "mse")


class Cycle:
    """One example after the other: the exponent is a mean over them, exactly."""

    def __init__(self, h: torch.Tensor) -> None:
        self.x = h.sqrt()[:, None]

    def __call__(self, step: int) -> Batch:
        x = self.x[step % len(self.x)][None]
        return Batch(x, torch.zeros_like(x))


ORIGIN = SignSets(torch.tensor([[0]]))
H = torch.tensor([0.1, 0.4, 1.0, 2.5, 7.0, 8.0, 9.5, 3.3, 0.2, 0.9], dtype=DOUBLE)


def hessian() -> float:
    """Of the loss of one example with x = 1."""
    objective = line()
    state = sgd.make(lr=1.0).init(objective, objective.start())
    one = Batch(torch.ones(1, 1, dtype=DOUBLE), torch.zeros(1, 1, dtype=DOUBLE))
    return float(objective.at(state, one).hvp(torch.ones(1, dtype=DOUBLE)))


@pytest.mark.parametrize("lr", [0.05, 0.2, 0.5])
def test_in_one_dimension_the_exponent_is_the_mean_of_log_one_minus_lr_h(lr):
    found = normal_exponents(
        line(), sgd.make(lr=lr), Cycle(H), torch.ones(1, dtype=DOUBLE), ORIGIN, steps=400, burn_in=0
    )
    exact = (1 - lr * hessian() * H).abs().log().mean()
    assert found.value.item() == pytest.approx(exact.item(), rel=1e-12)
    assert found.drift == 0
    assert bool(found.attracts) == (exact < 0)


def test_its_error_bar_covers_the_closed_form_for_random_minibatches():
    lr, scale = 0.3, hessian()

    def stream(step: int) -> Batch:
        x = torch.randn(1, 1, generator=generator(7, "x", step), dtype=DOUBLE)
        return Batch(x, torch.zeros_like(x))

    found = normal_exponents(
        line(), sgd.make(lr=lr), stream, torch.ones(1, dtype=DOUBLE), ORIGIN, steps=800, burn_in=0
    )
    grid = np.linspace(-9, 9, 2_000_001)  # the integrand has a logarithmic pole, which quadrature dislikes
    density = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi)
    with np.errstate(divide="ignore"):
        values = np.log(np.abs(1 - lr * scale * grid**2))
    values[~np.isfinite(values)] = 0
    exact = float((values * density).sum() * (grid[1] - grid[0]))
    assert abs(found.value.item() - exact) < 4 * found.error.item()
    assert 0 < found.error.item() < 0.1


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, False), (0.6, True)])
def test_with_momentum_and_decay_it_is_that_of_the_product_of_matrices(momentum, nesterov):
    lr, decay, scale = 0.07, 0.05, hessian()
    rule = sgd.make(lr=lr, momentum=momentum, weight_decay=decay, nesterov=nesterov)
    found = normal_exponents(
        line(), rule, Cycle(H), torch.ones(1, dtype=DOUBLE), ORIGIN, steps=1000, burn_in=200
    )
    product = np.eye(2)
    for h in H.numpy():
        curved = scale * h + decay
        velocity = np.array([curved, momentum])  # v⁺ = (h + λ)δ + βv
        step = np.array([curved, 0.0]) + momentum * velocity if nesterov else velocity
        product = np.stack([np.array([1.0, 0.0]) - lr * step, velocity]) @ product
    exact = math.log(max(abs(np.linalg.eigvals(product)))) / len(H)
    assert found.value.item() == pytest.approx(exact, abs=2e-3)  # complex pairs turn: a bounded wobble over T


@dataclass(frozen=True)
class Drop(Schedule):
    """A tenth from step 100 on."""

    def __call__(self, step: int) -> float:
        return 1.0 if step < 100 else 0.1


def test_a_schedule_is_followed():
    rule = sgd.SGD(0.5, schedule=Drop())
    found = normal_exponents(
        line(), rule, Cycle(H), torch.ones(1, dtype=DOUBLE), ORIGIN, steps=200, burn_in=0
    )
    scale = hessian()
    exact = [(1 - lr * scale * H).abs().log().mean().item() for lr in (0.5, 0.05)]
    assert found.growth[:100].mean().item() == pytest.approx(exact[0], rel=1e-12)
    assert found.growth[100:].mean().item() == pytest.approx(exact[1], rel=1e-12)


class Neuron(nn.Module):
    """ŷ = w₂ tanh(w₁ x)."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2, dtype=DOUBLE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w[1] * torch.tanh(self.w[0] * x)


def exponent_of_neuron(lr: float, signal: float, square: float, zeta: float) -> float:
    """E log|1 + ηc|: u = w₁ + w₂ grows by 1 + ηc with c = mean x(y + noise), normal of variance ζ² mean x²."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    c = signal + zeta * math.sqrt(square) * nodes
    return float((weights * np.log(np.abs(1 + lr * c))).sum() / weights.sum())


@pytest.mark.parametrize("ratio", [0.5, 1.5])  # of the noise to its threshold
def test_the_single_neuron_collapses_above_the_threshold_of_the_theory(ratio):
    # η ζ²/2 > Σxy/Σx² (σ'(0) = 1)
    m, lr = 32, 0.04
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(m, 1, generator=draw, dtype=DOUBLE)
    y = x + 0.1 * torch.randn(m, 1, generator=draw, dtype=DOUBLE)
    signal, square = float((x * y).mean()), float((x * x).mean())

    def zeta(lr: float) -> float:
        return math.sqrt(2 * ratio * signal / (square * lr))

    def stream(step: int) -> Batch:
        noise = torch.randn(m, 1, generator=generator(1, "labels", step), dtype=DOUBLE)
        return Batch(x, y + zeta(lr) * math.sqrt(m) * noise)

    found = normal_exponents(
        Training(Neuron(), "mse"),
        sgd.make(lr=lr / hessian()),  # gradients of ½(ŷ−y)²
        stream,
        torch.zeros(2, dtype=DOUBLE),
        SignSets(torch.tensor([[0, 1]])),
        steps=1500,
    )
    exact = exponent_of_neuron(lr, signal, square, zeta(lr))
    assert abs(found.value.item() - exact) < 4 * found.error.item()
    assert bool(found.attracts) == (ratio > 1)
    # and in the limit of small steps it is the exponent of the diffusion, σ'(0) mean xy − ½ηζ²σ'(0)² mean x²
    tiny = 1e-4
    diffusion = tiny * signal - (tiny * zeta(tiny)) ** 2 * square / 2
    assert exponent_of_neuron(tiny, signal, square, zeta(tiny)) == pytest.approx(diffusion, rel=2e-3)


def pair_net() -> tuple[Training, PermutationSets, torch.Tensor]:
    """1-4-1 tanh; neurons 0, 1 and 2, 3 are pairs. Flat: w_in (4), bias (4), w_out (4)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1, bias=False)).to(DOUBLE)
    objective = Training(net, "mse")
    where = torch.arange(12).view(3, 4).t()
    return objective, PermutationSets(where[[0, 2]], where[[1, 3]]), objective.start()


def noisy(step: int) -> Batch:
    x = torch.linspace(-1, 1, 8, dtype=DOUBLE)[:, None]
    return Batch(x, x.sin() + 0.3 * torch.randn(8, 1, generator=generator(0, "labels", step), dtype=DOUBLE))


def test_pairs_are_followed_one_by_one():
    # the deviation of one pair knows nothing of another: alone each has the exponent it has in company
    objective, sets, w = pair_net()
    rule = sgd.make(lr=0.1, momentum=0.5, weight_decay=1e-3)
    together = normal_exponents(objective, rule, noisy, sets.project(w), sets, steps=300)
    for pair in range(2):
        one = PermutationSets(sets.first[[pair]], sets.second[[pair]])
        alone = normal_exponents(objective, rule, noisy, sets.project(w), one, steps=300, seed=1)
        assert alone.value.item() == pytest.approx(together.value[pair].item(), abs=2e-3)
    assert together.drift < 1e-13


def test_the_exponent_is_the_rate_at_which_a_perturbed_pair_departs():
    objective, sets, w = pair_net()
    rule = sgd.make(lr=0.1, momentum=0.5)
    steps = 400
    start = sets.project(w)
    found = normal_exponents(objective, rule, noisy, start, sets, steps=steps, burn_in=0)
    draw = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    state = rule.init(objective, start + 1e-9 * sets.lift(draw, len(w)))
    before = None
    for step in range(steps):
        if step == 100:
            before = sets.distances(state.w)
        state, _ = rule.step(objective.at(state, noisy(step)), state)
    rate = (sets.distances(state.w) / before).log() / (steps - 100)
    assert torch.allclose(rate, found.growth[100:].mean(0), atol=2e-3)


def test_still_measures_one_point():
    objective, sets, w = pair_net()
    rule = sgd.make(lr=0.1)
    here = sets.project(w)

    def same(step: int) -> Batch:
        return noisy(0)

    found = normal_exponents(objective, rule, same, here, sets, steps=200, burn_in=200, still=True)
    state = rule.init(objective, here)
    point = objective.at(state, noisy(0))
    for pair, value in enumerate(found.value):
        basis = []
        for row in torch.eye(3, dtype=DOUBLE):
            unit = torch.zeros(2, 3, dtype=DOUBLE)
            unit[pair] = row
            basis.append(sets.coordinates(point.hvp(sets.lift(unit, 12)))[pair])
        growth = torch.linalg.eigvalsh(torch.eye(3, dtype=DOUBLE) - 0.1 * torch.stack(basis)).abs().max()
        assert value.item() == pytest.approx(growth.log().item(), abs=1e-4)


def test_sets_are_made_from_groups():
    objective, sets, _ = pair_net()
    net = objective.training.module
    (group,) = neuron_groups(net, torch.zeros(2, 1, dtype=DOUBLE))
    made = PermutationSets.of(group, dict(net.named_parameters()), [(0, 1), (2, 3)])
    assert torch.equal(made.first.sort(1).values, sets.first.sort(1).values)
    assert torch.equal(made.second.sort(1).values, sets.second.sort(1).values)
    signs = SignSets.of(group, dict(net.named_parameters()), [3])
    assert signs.positions.sort().values.tolist() == [[3, 7, 11]]
    bent = nn.Sequential(nn.Linear(1, 4), nn.Sigmoid(), nn.Linear(4, 1))
    (group,) = neuron_groups(bent, torch.zeros(2, 1))
    with pytest.raises(InputError, match="sigmoid"):
        SignSets.of(group, dict(bent.named_parameters()), [0])


def of_activation(activation: nn.Module) -> tuple[Training, SignSets, torch.Tensor]:
    """4-8-1 with neuron 2 on its sign set."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 8), activation, nn.Linear(8, 1)).to(DOUBLE)
    objective = Training(net, "mse")
    (group,) = neuron_groups(net, torch.zeros(2, 4, dtype=DOUBLE))
    sets = SignSets.of(group, dict(net.named_parameters()), [2])
    return objective, sets, sets.project(objective.start())


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_gelu_neuron_departs_to_either_side_at_its_exponent(side):
    objective, sets, w = of_activation(nn.GELU())

    def batch(step: int) -> Batch:
        x = torch.randn(4, 4, generator=generator(0, "x", step), dtype=DOUBLE)
        return Batch(x, 2 * x[:, :1] + 3 * torch.sin(3 * x[:, 1:2]))

    rule = sgd.make(lr=0.02, momentum=0.5)
    found = normal_exponents(objective, rule, batch, w, sets, steps=400, burn_in=100)
    draw = torch.randn(1, sets.width, generator=generator(0, "lyapunov"), dtype=DOUBLE)
    state = rule.init(objective, w + side * 1e-9 * sets.lift(draw, len(w)))
    for step in range(500):
        if step == 100:
            before = sets.distances(state.w)
        state, _ = rule.step(objective.at(state, batch(step)), state)
    rate = float((sets.distances(state.w) / before).log()) / 400
    assert rate == pytest.approx(found.value.item(), abs=1e-4)  # δ's velocity is no part of its distance


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(), nn.PReLU(), nn.SELU()])
def test_a_sign_set_on_which_the_loss_has_a_kink_is_refused(activation):
    with pytest.raises(InputError, match=r"has a kink at 0, so that the loss has no Hessian there"):
        of_activation(activation)


class Signs(sgd.SGD):
    """w ← w − η sign(g)."""

    def update(self, grad, state, factor):
        return super().update(grad.sign(), state, factor)


def test_what_has_no_exponent_is_refused():
    objective, sets, w = pair_net()
    with pytest.raises(InputError, match="linear"):
        normal_exponents(objective, Signs(0.1), noisy, w, sets, steps=40)
    clipped = sgd.SGD(0.1, grad_clip_norm=1e-3)
    with pytest.raises(InputError, match="clipping"):
        normal_exponents(objective, clipped, noisy, w, sets, steps=40)
    with pytest.raises(InputError, match="at least 20"):
        normal_exponents(objective, sgd.make(lr=0.1), noisy, w, sets, steps=3)
    half = SignSets(torch.tensor([[0]]))
    with pytest.raises(InputError, match="not invariant"):  # only the incoming weights, not the outgoing ones
        normal_exponents(objective, sgd.make(lr=0.1), noisy, w, half, steps=40)
    with pytest.raises(InputError, match="share a parameter"):
        PermutationSets(sets.first, sets.second[[1, 1]])


def test_batch_means_of_white_noise_and_of_a_slow_series():
    draw = torch.Generator().manual_seed(0)
    white = torch.randn(20_000, generator=draw, dtype=DOUBLE)
    _, error = batch_means(white)
    assert error.item() == pytest.approx(1 / math.sqrt(20_000), rel=0.5)
    slow = white.unflatten(0, (200, 100)).mean(1, keepdim=True).expand(200, 100).flatten()
    _, error = batch_means(
        slow
    )  # σ² is 1/100 and 200 are independent: 1/141, not 1/1410 as a naive count has it
    assert error.item() == pytest.approx(0.1 / math.sqrt(200), rel=0.5)
