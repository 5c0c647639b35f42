"""Stochastic steps: their order against an exact solution, their fused forms, and the noise of labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from limen.dynamics.euler_maruyama import EulerMaruyama
from limen.dynamics.label_noise_sgd import LabelNoiseSGD
from limen.dynamics.polyak import Polyak
from limen.errors import InputError
from limen.objectives import Quadratic
from limen.objectives.analytic import Analytic, Diffusing, Regression
from limen.objectives.edge import QuadraticRegression, SharpeningValley
from limen.objectives.factors import Factors, Product
from limen.objectives.geometric import Geometric
from limen.objectives.neuron import Neuron, Table, moments
from limen.objectives.quartic import Quartic
from limen.objectives.units import ACTIVATIONS, Units
from limen.randomness import generator
from limen.types import State

RATE, ZETA, TIME = 1.0, 0.8, 1.0


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def units(k: int = 1, name: str = "tanh") -> Units:
    return Units(draw(7, seed=1), draw(7, seed=2), k, name)


def end_points(count: int, paths: int, zeta: float = ZETA) -> tuple[Tensor, Tensor]:
    """End points of `EulerMaruyama` after so many steps and the exact ones, on the Brownian paths of its own noise."""
    motion, h = Geometric(RATE, zeta), TIME / count
    rule = EulerMaruyama(dt=h, seed=count)
    state = rule.init(motion, torch.ones(paths, 1, dtype=torch.float64))
    brownian = torch.zeros(paths, 1, dtype=torch.float64)
    for _ in range(count):
        after, _ = rule.step(motion.at(state), state)
        brownian += (after.w / state.w - 1 + h * RATE) / zeta
        state = after
    return state.w, motion.solution(torch.ones(paths, 1).double(), TIME, brownian)


def slope(steps: list[int], errors: list[float]) -> float:
    return float(np.polyfit(np.log(TIME / np.array(steps)), np.log(errors), 1)[0])


def test_strong_order_is_one_half():
    steps = [32, 64, 128, 256, 512]
    ends = [end_points(count, 4000) for count in steps]
    measured = slope(steps, [float((w - exact).abs().mean()) for w, exact in ends])
    assert abs(measured - 0.5) < 0.06


@pytest.mark.parametrize("power", [1, 2])
def test_weak_order_is_one(power):
    steps = [4, 8, 16, 32]
    zeta = ZETA / power  # the second moment would be right by chance at larger noise
    ends = [end_points(count, 150_000, zeta) for count in steps]
    # differences on the same paths: their noise is that of the strong error
    errors = [abs(float((w**power - exact**power).mean())) for w, exact in ends]
    assert abs(slope(steps, errors) - 1) < 0.2
    moment = Geometric(RATE, zeta).moment(1.0, TIME, power)
    for _, exact in ends:
        scatter = float((exact**power).std() / math.sqrt(len(exact)))
        assert abs(float((exact**power).mean()) - moment) < 4 * scatter


def assert_white(xi: Tensor) -> None:
    """Check that ξ (steps, paths, noises) is standard normal, and independent along every axis, to 4.5 errors."""
    n = xi.numel()
    assert abs(float(xi.mean())) < 4.5 / math.sqrt(n)
    assert abs(float(xi.square().mean()) - 1) < 4.5 * math.sqrt(2 / n)
    assert abs(float((xi**3).mean())) < 4.5 * math.sqrt(15 / n)
    assert abs(float((xi**4).mean()) - 3) < 4.5 * math.sqrt(96 / n)
    for axis in range(xi.ndim):
        for lag in range(1, min(xi.shape[axis], 4)):
            products = xi.narrow(axis, lag, xi.shape[axis] - lag) * xi.narrow(axis, 0, xi.shape[axis] - lag)
            assert abs(float(products.mean())) < 4.5 / math.sqrt(products.numel()), (axis, lag)


def noise_of_euler_maruyama(steps: int = 8, paths: int = 4000) -> Tensor:
    """ξ as its steps show it, (steps, paths, 1)."""
    landscape, h = Quartic(1.5, 0.7), 0.01
    rule = EulerMaruyama(dt=h, seed=4)
    state = rule.init(landscape, 1 + 0.1 * draw(paths, 1, seed=1))
    found = []
    for _ in range(steps):
        after, _ = rule.step(landscape.at(state), state)
        found.append((after.w - state.w + h * landscape.gradient(state.w)) / (math.sqrt(h) * 0.7 * state.w))
        state = after
    return torch.stack(found)


def noise_of_label_noise_sgd(steps: int = 8, paths: int = 1500, beta: float = 0.5) -> Tensor:
    """ξ as its steps show it, (steps, paths, 3): on products of factors J is diagonal in each factor."""
    landscape, lr, sigma = Factors(torch.tensor([0.5, 1.0, 2.0]).double(), 4), 0.05, 0.7
    rule = LabelNoiseSGD(lr, beta, sigma, seed=4)
    state = rule.init(landscape, (1 + 0.1 * draw(6, seed=1)).expand(paths, 6).clone())
    found = []
    for _ in range(steps):
        after, _ = rule.step(landscape.at(state), state)
        w = state.w
        grad = (w - after.w) / lr - beta * state.slots["velocity"]
        missing = landscape.predict(w) - landscape.targets - 4 * grad[:, :3] / w[:, 3:]
        found.append(missing / sigma)
        state = after
    return torch.stack(found)


@pytest.mark.parametrize("noise", [noise_of_euler_maruyama, noise_of_label_noise_sgd])
def test_the_noise_of_a_rule_is_white(noise):
    assert_white(noise())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda xi: torch.rand(xi.shape, generator=torch.Generator().manual_seed(0), dtype=xi.dtype),
        lambda xi: 5 * xi,
        lambda xi: 1.05 * xi,
        lambda xi: xi[:1].expand_as(xi),
        lambda xi: xi[:, :1].expand_as(xi),
        lambda xi: xi.sign(),
    ],
    ids=["uniform", "five times", "a twentieth more", "the same each step", "the same each path", "signs"],
)
def test_noise_that_is_not_white_is_found_out(wrong):
    with pytest.raises(AssertionError):
        assert_white(wrong(draw(8, 4000, 1)))


def landscapes() -> dict[str, tuple[Analytic, Tensor]]:
    one = draw(1, seed=3)
    return {
        "quartic": (Quartic(1.5, 0.7), one),
        "geometric": (Geometric(1.0, 0.5), one),
        "neuron": (Neuron(units(), 0.8, 1.1), draw(2, seed=4)),
        "factors": (Factors(draw(3, seed=5), 4), draw(6, seed=6)),
        "product": (Product(3), draw(6, seed=7)),
        "valley": (SharpeningValley(2.0, 0.3), draw(2, seed=8)),
        "regression": (
            QuadraticRegression(draw(3, seed=9), draw(1, seed=1)[0], draw(3, seed=2)),
            draw(3, seed=3),
        ),
        **{f"units-{name}": (units(2, name), draw(4, seed=4)) for name in ACTIVATIONS},
    }


@pytest.mark.parametrize("name", landscapes())
def test_closed_derivatives_are_those_of_the_value(name):
    landscape, w = landscapes()[name]
    leaf = w.clone().requires_grad_()
    (expected,) = torch.autograd.grad(landscape.value(leaf), leaf)
    point = landscape.at(State(w, torch.zeros(())))
    assert torch.allclose(point.grad, expected, rtol=1e-10, atol=1e-12)
    # Hessian and third derivative by central differences of what is below them
    u, v = draw(len(w), seed=11), draw(len(w), seed=12)
    eps = 1e-5

    def at(shift: Tensor) -> Tensor:
        return landscape.at(State(w + shift, torch.zeros(())))

    hessian = (at(eps * v).grad - at(-eps * v).grad) / (2 * eps)
    assert torch.allclose(point.hvp(v), hessian, rtol=1e-7, atol=1e-8)
    third = torch.stack(
        [(at(eps * e).hvp(v) - at(-eps * e).hvp(v)) @ u / (2 * eps) for e in torch.eye(len(w)).double()]
    )
    assert torch.allclose(point.d3(u, v), third, rtol=1e-6, atol=1e-7)
    batch = torch.stack([w, 0.3 * w])
    assert torch.allclose(landscape.gradient(batch)[0], point.grad) or name == "regression"


@pytest.mark.parametrize("name", ["quartic", "geometric", "neuron"])
def test_the_fused_step_is_the_plain_one(name):
    landscape, _ = landscapes()[name]
    assert isinstance(landscape, Diffusing)
    w, xi = draw(6, 5, landscape.dim, seed=1), draw(6, 5, landscape.noises, seed=2)
    fused, plain = w.clone(), w.clone()
    landscape.euler_(fused, xi.clone(), 0.01)
    Diffusing.euler_(landscape, plain, xi.clone(), 0.01)
    assert torch.allclose(fused, plain, rtol=1e-8, atol=1e-10)


def test_noise_levels_broadcast():
    zeta = torch.tensor([0.3, 2.0], dtype=torch.float64)[:, None, None]
    w, xi = draw(2, 5, 1, seed=1), draw(2, 5, 1, seed=2)
    together, apart = w.clone(), w.clone()
    Quartic(1.5, zeta).euler_(together, xi.clone(), 0.01)
    for row, noise, level in zip(apart, xi, (0.3, 2.0), strict=True):
        Quartic(1.5, level).euler_(row, noise.clone(), 0.01)
    assert torch.allclose(together, apart, rtol=1e-14)


def test_the_neurons_two_noises_have_the_covariance_of_its_m():
    regression = units()
    w = draw(2, seed=4)
    neuron = Neuron(regression, 0.8, 1.1)
    columns = torch.stack([neuron.diffuse(w, e) for e in torch.eye(2, dtype=torch.float64)], dim=1)
    jacobian = torch.autograd.functional.jacobian(regression.predict, w)
    assert torch.allclose(columns @ columns.T, 0.8 * 1.1**2 / 7 * jacobian.T @ jacobian, rtol=1e-10)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_tables_of_a_neuron_are_exact_near_its_invariant_point_and_good_elsewhere(name):
    regression = Units(draw(32, seed=1), draw(32, seed=2), 1, name)
    table = Table(regression)
    assert table.error < 1e-8
    slope_at_zero = regression.sigma.slope_at_zero
    x, y = regression.inputs, regression.targets
    alpha, c, g, q, kappa = table(torch.tensor([1e-40], dtype=torch.float64))
    assert torch.allclose(alpha, slope_at_zero * (x * y).mean(), rtol=1e-7)
    assert torch.allclose(c, alpha, rtol=1e-6)
    assert torch.allclose(g, slope_at_zero * x.square().mean().sqrt(), rtol=1e-7)
    assert torch.allclose(q, g, rtol=1e-6)
    assert float(kappa) < 1e-8
    u = torch.linspace(-30, 30, 4001, dtype=torch.float64)  # beyond the nodes too
    assert torch.allclose(torch.stack(table(u)), moments(regression, u), rtol=1e-6, atol=1e-8)


def test_tables_refuse_inputs_that_they_cannot_resolve():
    with pytest.raises(InputError, match="scale x down"):
        Table(Units(1e4 * draw(5, seed=1), draw(5, seed=2)))


def test_euler_maruyama_steps_and_clocks():
    landscape, w = Quartic(1.5, 0.7), draw(9, 1, seed=1)
    rule = EulerMaruyama(dt=0.01, seed=4)
    state = rule.init(landscape, w)
    once, _ = rule.step(landscape.at(state), state)
    again, _ = rule.step(landscape.at(state), state)
    assert torch.equal(once.w, again.w)
    twice, _ = rule.step(landscape.at(once), once)
    assert torch.allclose(twice.t, torch.full((9,), 0.02, dtype=torch.float64))
    bowl = Quadratic(torch.eye(2).double(), torch.ones(2).double())
    calm = rule.init(bowl, bowl.start())
    assert torch.allclose(rule.step(bowl.at(calm), calm)[0].w, torch.full((2,), 0.99, dtype=torch.float64))
    with pytest.raises(InputError, match="dt must be a positive number"):
        EulerMaruyama(dt=-0.1)


@pytest.mark.parametrize("landscape", [units(2), Factors(draw(3, seed=5), 4)], ids=["units", "factors"])
def test_label_noise_moves_the_labels(landscape: Regression):
    w = draw(landscape.dim, seed=1)
    shift = draw(len(landscape.targets), seed=2)
    leaf = w.clone().requires_grad_()
    loss = (landscape.predict(leaf) - landscape.targets - shift).square().sum() / (2 * landscape.count)
    (expected,) = torch.autograd.grad(loss, leaf)
    assert torch.allclose(landscape.gradient(w, shift), expected, rtol=1e-12)


def test_the_fused_descent_of_factors_is_a_step_along_the_gradient():
    landscape = Factors(draw(3, seed=5), 4)
    w, shift = draw(5, 6, seed=1), draw(5, 3, seed=2)
    u, v = w[:, :3].clone(), w[:, 3:].clone()
    landscape.descend_(u, v, shift.clone(), 0.5 / 4)
    assert torch.allclose(torch.cat([u, v], 1), w - 0.5 * landscape.gradient(w, shift), rtol=1e-12)


def test_the_fused_descent_of_factors_is_label_noise_sgd_on_the_same_noise():
    landscape, sigma, count = Factors(draw(3, seed=5), 4), 0.7, 4
    rule = LabelNoiseSGD(0.5, 0.0, sigma, seed=3)
    state = rule.init(landscape, draw(5, 6, seed=1))
    u, v = state.w[:, :3].clone(), state.w[:, 3:].clone()
    for step in range(6):
        xi = torch.randn(5, 3, generator=generator(3, rule.name, step), dtype=torch.float64)
        landscape.descend_(u, v, sigma * xi, 0.5 / count)
        state, _ = rule.step(landscape.at(state), state)
    assert torch.allclose(torch.cat([u, v], 1), state.w, rtol=1e-10)


def test_label_noise_sgd_has_the_mean_and_the_covariance_of_its_noise():
    landscape = units(2)
    paths, sigma, lr = 20_000, 0.7, 0.1
    w = draw(4, seed=1).expand(paths, 4)
    rule = LabelNoiseSGD(lr, 0.0, sigma)
    state = rule.init(landscape, w)
    after, _ = rule.step(landscape.at(state), state)
    steps = (w - after.w) / lr
    jacobian = torch.autograd.functional.jacobian(landscape.predict, w[0].clone())
    covariance = sigma**2 / landscape.count**2 * jacobian.T @ jacobian
    error = covariance.diagonal().sqrt() / math.sqrt(paths)
    assert ((steps.mean(0) - landscape.gradient(w[0])).abs() < 4 * error).all()
    assert torch.allclose(
        torch.cov(steps.T), covariance, atol=5 / math.sqrt(paths) * float(covariance.diagonal().max())
    )


def test_label_noise_sgd_without_noise_is_heavy_ball():
    landscape = units(2)
    one, other = LabelNoiseSGD(0.1, 0.8), Polyak(0.1, 0.8)
    a = b = one.init(landscape, draw(4, seed=1))
    for _ in range(5):
        a, _ = one.step(landscape.at(a), a)
        b, _ = other.step(landscape.at(b), b)
    assert torch.equal(a.w, b.w)


def test_label_noise_needs_labels_and_is_not_negative():
    bowl = Quadratic(torch.eye(2).double(), torch.ones(2).double())
    with pytest.raises(InputError, match="needs a regression"):
        LabelNoiseSGD(0.1, 0.0, sigma=0.5).init(bowl, bowl.start())
    with pytest.raises(InputError, match="must not be negative"):
        LabelNoiseSGD(0.1, 0.0, sigma=-0.5)


def test_curvature_is_that_of_one_trajectory():
    with pytest.raises(InputError, match="one trajectory"):
        Quartic(1.5, 0.1).at(State(draw(4, 1), torch.zeros(()))).hvp(draw(1))


def test_closed_systems_refuse_what_does_not_fit():
    with pytest.raises(InputError, match="unknown activation 'relu'"):
        units(1, "relu")
    with pytest.raises(InputError, match="1 unit"):
        Neuron(units(2), 1.0, 1.0)
    with pytest.raises(InputError, match=r"must be \(N,\)"):
        Units(draw(3), draw(4))
