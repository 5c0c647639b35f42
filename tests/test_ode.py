"""Integrators of the gradient flow: orders and errors on closed forms, stability, evidence, failure; float64."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from limen.errors import InputError
from limen.ode import INTEGRATORS, NDF, RK4, RKC2, Auto, Integrator
from limen.ode import differences as formulas
from limen.ode.integrator import Ledger
from limen.ode.radius import Radius, difference_product, spectral_radius
from limen.ode.recycle import Preconditioner, solve
from limen.ode.rk43 import LONG, RK43, SHORT
from limen.ode.rkc2 import SAFETY, coefficients, stages

F64 = torch.float64
ADAPTIVE = (NDF, RKC2, Auto)


class LeastSquares:
    """L(θ) = |Aθ − b|²/2n; θ(t) = θ* + e^{−Ht}(θ₀ − θ*) with H = AᵀA/n, by its eigenvectors."""

    def __init__(self, values: Tensor, seed: int = 0) -> None:
        p = len(values)
        draw = torch.Generator().manual_seed(seed)
        self.Q = torch.linalg.qr(torch.randn(p, p, generator=draw, dtype=F64))[0]
        self.values, self.H = values, self.Q * values @ self.Q.T
        self.goal = torch.randn(p, generator=draw, dtype=F64)
        self.start = self.goal + torch.randn(p, generator=draw, dtype=F64)

    def __call__(self, theta: Tensor) -> Tensor:
        return self.H @ (theta - self.goal)

    def exact(self, t: float) -> Tensor:
        decay = torch.exp(-self.values * t)
        return self.goal + self.Q @ (decay * (self.Q.T @ (self.start - self.goal)))


def pendulum(theta: Tensor) -> Tensor:
    """Of L = Σ 1 − cos θᵢ: θ(t) = 2 atan(tan(θ₀/2) e^{−t}), which is not linear."""
    return torch.sin(theta)


def pendulum_exact(start: Tensor, t: float) -> Tensor:
    return 2 * torch.atan(torch.tan(start / 2) * math.exp(-t))


def follow(method: Integrator, field, start: Tensor, end: float, ticks: int = 1):
    memory = method.init(field, start)
    total, seen = 0, []
    for tick in range(1, ticks + 1):
        done = method.advance(field, memory, end * tick / ticks)
        assert done.evidence.ok, done.evidence.why
        memory, total = done.memory, total + done.evidence.gradients
        seen.append(done.theta)
    return seen, total, memory


def order(steps: list[float], errors: list[float]) -> float:
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


@pytest.fixture(scope="module")
def linear() -> LeastSquares:
    return LeastSquares(torch.linspace(0.2, 2.0, 8, dtype=F64))


# convergence orders


@pytest.mark.parametrize("nonlinear", [False, True])
def test_rk4_is_of_order_4(linear, nonlinear):
    start = torch.tensor([2.0, -1.0, 0.5], dtype=F64) if nonlinear else linear.start
    field = pendulum if nonlinear else linear
    exact = pendulum_exact(start, 2.0) if nonlinear else linear.exact(2.0)
    steps = [2 / n for n in (8, 16, 32, 64)]
    errors = [
        float((follow(RK4(max_step_size=h, alpha=1e6), field, start, 2.0)[0][0] - exact).norm())
        for h in steps
    ]
    assert 3.85 < order(steps, errors) < 4.3


@pytest.mark.parametrize("nonlinear", [False, True])
def test_rkc2_is_of_order_2(linear, nonlinear):
    start = torch.tensor([2.0, -1.0, 0.5], dtype=F64) if nonlinear else linear.start
    field = pendulum if nonlinear else linear
    exact = pendulum_exact(start, 2.0) if nonlinear else linear.exact(2.0)
    steps = [2 / n for n in (16, 32, 64, 128)]
    errors = [float((follow(RKC2(fixed=h), field, start, 2.0)[0][0] - exact).norm()) for h in steps]
    assert 1.9 < order(steps, errors) < 2.15


def with_history(method: NDF, field, start_at: float, exact, h: float):
    """Return a memory whose differences are those of the solution itself, up to the method's order."""
    memory = method.init(field, exact(start_at))
    k = method.max_order
    points = torch.stack([exact(start_at - i * h) for i in range(k + 1)])
    D = torch.zeros_like(memory["D"])
    for j in range(k + 1):
        D[j] = sum((-1) ** i * math.comb(j, i) * points[i] for i in range(j + 1))
    return memory | {"D": D, "h": h, "order": k, "t": start_at, "earliest": start_at}


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_each_ndf_has_its_order(linear, k):
    steps, errors = [2 / n for n in (20, 40, 80)], []
    for h in steps:
        method = NDF(1e-12, max_order=k, fixed=h)
        memory = with_history(method, linear, 1.0, linear.exact, h)
        n = round(2 / h)
        ledger = Ledger(linear, 1e-12)
        for _ in range(n):
            memory = method.step(ledger, memory, 3.0)
        errors.append(float((memory["D"][0] - linear.exact(1.0 + n * h)).norm()))
    assert k - 0.2 < order(steps, errors) < k + 0.35


def test_ndf_coefficients_solve_the_order_conditions():
    """Σ (1/j) ∇ʲ − κγ(∇ᵏ⁺¹) applied to t^m is m t^(m−1) h for m ≤ k, and misses t^(k+1) by (k+1)! ERROR."""
    for k in range(1, 6):
        for m in range(k + 2):
            # tₙ₊₁ = 0, h = 1: y(−i) = (−i)^m
            y = [float((-i) ** m) if m else 1.0 for i in range(k + 2)]
            nabla = [sum((-1) ** i * math.comb(j, i) * y[i] for i in range(j + 1)) for j in range(k + 2)]
            formula = sum(nabla[j] / j for j in range(1, k + 1))
            formula -= formulas.KAPPA[k] * formulas.HARMONIC[k] * nabla[k + 1]
            slope = 1.0 if m == 1 else 0.0
            missing = -math.factorial(k + 1) * formulas.ERROR[k] if m == k + 1 else 0.0
            assert formula == pytest.approx(slope + missing, abs=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("factor", [0.3, 1.0, 2.0])
def test_rescaled_differences_are_those_of_the_same_polynomial(k, factor):
    draw = torch.Generator().manual_seed(k)
    D = torch.randn(k + 3, 4, generator=draw, dtype=F64)
    new = formulas.rescaled(D, k, factor)
    for x in (0.7, 0.0, -1.3, -k):
        torch.testing.assert_close(
            formulas.interpolated(new, k, x / factor), formulas.interpolated(D, k, x), atol=1e-9, rtol=1e-9
        )


def test_rkc2_is_stable_on_its_interval_and_of_order_two_at_zero():
    """|P_s(z)| ≤ 1 on [−β, 0] with β from the stage rule, and P_s(z) = 1 + z + z²/2 + O(z³)."""

    def polynomial(z: np.ndarray, s: int) -> np.ndarray:
        table = coefficients(s)
        older, newer = np.ones_like(z), 1 + table.first * z
        for mu, nu, tilde, gamma in table.rows:
            older, newer = newer, (1 - mu - nu) + mu * newer + nu * older + tilde * z * newer + gamma * z
        return newer

    for s in (3, 5, 10, 40, 200):
        beta = ((s**2) - 1) / 1.54
        assert stages(beta * 0.999) <= s
        z = np.linspace(-beta, 0, 20_001)
        assert np.abs(polynomial(z, s)).max() <= 1 + 1e-10
        inside = z[(z < -0.02 * beta) & (z > -0.98 * beta)]
        assert np.abs(polynomial(inside, s)).max() < 0.99  # damped
        small = np.array([-1e-3, -2e-3])
        rest = polynomial(small, s) - (1 + small + small**2 / 2)
        assert rest[1] / rest[0] == pytest.approx(8, rel=0.02)


@pytest.mark.parametrize("nonlinear", [False, True])
def test_rk43_is_of_order_4_and_its_estimate_falls_as_the_fourth_power_of_the_step(linear, nonlinear):
    """Steps of SHORT/ρ, with ρ given and not refreshed."""
    start = torch.tensor([2.0, -1.0, 0.5], dtype=F64) if nonlinear else linear.start
    field = pendulum if nonlinear else linear
    method, given = RK43(1e-4), {"vector": start, "old": -10_000}
    errors, estimates, lengths = [], [], [1 / 8, 1 / 16, 1 / 32, 1 / 64]
    for h in lengths:
        memory, ledger = (
            method.init(field, start) | given | {"relative": SHORT, "radius": SHORT / h},
            Ledger(field, 1e-4),
        )
        while memory["t"] < 1 - 1e-9:
            memory = method.step(ledger, memory, 1.0) | {"relative": SHORT}
        exact = pendulum_exact(start, 1.0) if nonlinear else linear.exact(1.0)
        assert memory["t"] == pytest.approx(1.0)
        errors.append(float((memory["y"] - exact).norm()))
        estimates.append(ledger.error)
    assert 3.85 < order(lengths, errors) < 4.3
    assert 2.8 < order(lengths, estimates) < 3.3  # their sum: local errors of order 4, 1/h of them
    assert all(estimate > error for estimate, error in zip(estimates, errors, strict=True))


def test_rk43_takes_steps_of_at_most_two_over_the_radius_and_counts_the_forced(linear):
    method = RK43(2e-2)
    done = method.advance(linear, method.init(linear, linear.start), 40.0)
    assert done.evidence.ok
    assert done.evidence.forced == 0
    # ρ = 2, estimated from below: about 40 steps of 2/ρ, four gradients each, and the estimates of ρ
    assert done.memory["relative"] == LONG
    assert 0.9 * 4 * 40 < done.evidence.gradients < 1.3 * 4 * 40
    assert (done.theta - linear.exact(40.0)).norm() < 1e-2
    tight = RK43(1e-7)
    early = tight.advance(linear, tight.init(linear, linear.start), 2.0)
    assert early.evidence.forced == early.evidence.steps > 0
    middle = method.advance(linear, method.init(linear, linear.start), 1.3)
    assert middle.memory["t"] > 1.3  # the cubic between two ends
    assert (middle.theta - linear.exact(1.3)).norm() < 2e-2


# adaptive


@pytest.mark.parametrize("kind", ADAPTIVE)
def test_global_error_falls_in_proportion_to_rtol(kind):
    start = torch.tensor([3.0, -2.5, 1.0, 0.3], dtype=F64)
    exact = pendulum_exact(start, 3.0)
    tolerances = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8]
    errors = []
    for rtol in tolerances:
        found = follow(kind(rtol), pendulum, start, 3.0)[0][0]
        errors.append(float((found - exact).norm() / start.norm()))
    # a local error of h^(k+1) held at rtol: the global error goes as rtol^(k/(k+1)) at a fixed order k
    power = 2 / 3 if kind is RKC2 else 1.0
    assert all(error < 30 * rtol**power for error, rtol in zip(errors, tolerances, strict=True))
    least = 0.6 if kind is RKC2 else 0.75
    assert least < order(tolerances, errors) < 1.25


@pytest.mark.parametrize("kind", ADAPTIVE)
def test_ticks_change_neither_the_steps_nor_the_accuracy(kind):
    start = torch.tensor([3.0, -2.5, 1.0, 0.3], dtype=F64)
    rtol = 1e-6
    once, cost, _ = follow(kind(rtol), pendulum, start, 3.0, 10)
    fine, cost_fine, _ = follow(kind(rtol), pendulum, start, 3.0, 300)
    assert cost == cost_fine
    assert torch.equal(once[-1], fine[-1])
    at_steps = max(float((x - pendulum_exact(start, 0.3 * (i + 1))).norm()) for i, x in enumerate(once))
    between = max(float((x - pendulum_exact(start, 0.01 * (i + 1))).norm()) for i, x in enumerate(fine))
    assert between < 3 * at_steps
    assert between < 30 * start.norm() * (rtol ** (2 / 3) if kind is RKC2 else rtol)


def test_rk4_hits_each_tick_and_shortens_the_last_step_only(linear):
    method = RK4(alpha=1.0)
    memory = method.with_sharpness(method.init(linear, linear.start), 2.0)
    done = method.advance(linear, memory, 1.75)
    assert (done.evidence.steps, done.evidence.gradients, done.memory["t"]) == (4, 15, 1.75)
    assert method.advance(linear, done.memory, 2.0).evidence.gradients == 4
    assert (done.theta - linear.exact(1.75)).norm() < 5e-3
    assert RK4(max_step_size=0.1).step_size(2.0) == 0.1
    assert RK4(max_step_size=3.0).step_size(-1.0) == 3.0


def test_rk4_without_a_measured_sharpness_uses_the_spectral_radius(linear):
    done = RK4(alpha=0.5).advance(linear, RK4().init(linear, linear.start), 10.0)
    assert 0.8 < done.evidence.steps / (10.0 * 2.0 / 0.5) <= 1.05
    assert (done.theta - linear.exact(10.0)).norm() < 1e-3


@pytest.mark.parametrize("method", [NDF(1e-5), NDF(1e-5, recycle=6), RKC2(1e-4), RK4(), Auto(1e-5)])
def test_a_saved_memory_goes_on_bit_for_bit(method):
    def field(theta):
        return torch.sin(theta) + 40 * torch.sin(theta.sum()) * torch.ones_like(theta)

    start = torch.tensor([3.0, -2.5, 1.0, 0.3], dtype=F64)
    memory = method.init(field, start)
    before = {name: x.clone() for name, x in memory.items() if torch.is_tensor(x)}
    whole = memory
    for tick in range(1, 21):
        whole = method.advance(field, whole, tick / 10).memory
    assert all(torch.equal(memory[name], x) for name, x in before.items())  # nothing is changed in place
    resumed = memory
    for tick in range(1, 21):
        file = io.BytesIO()
        torch.save(resumed, file)
        file.seek(0)
        resumed = method.advance(field, torch.load(file, weights_only=True), tick / 10).memory
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        if torch.is_tensor(value):
            assert torch.equal(value, resumed[name]), name
        else:
            assert value == resumed[name] or (value != value and resumed[name] != resumed[name]), name


@pytest.mark.parametrize(("kind", "most"), [(NDF, 700), (Auto, 700), (RKC2, 40_000)])
def test_a_stiff_problem_takes_few_gradients(kind, most):
    """λ from 0.1 to 1e6, T = 10: RK4 would take 4e7."""
    values = torch.cat([torch.tensor([1e6, 3e5, 1e4], dtype=F64), torch.linspace(0.1, 1, 17, dtype=F64)])
    problem = LeastSquares(values)
    found, cost, _ = follow(kind(1e-5), problem, problem.start, 10.0)
    assert cost < most
    assert (found[0] - problem.exact(10.0)).norm() < 30e-5 * problem.start.norm()


def test_recycled_directions_save_products():
    values = torch.cat([torch.logspace(1, 4, 12, dtype=F64), torch.linspace(0.01, 1, 40, dtype=F64)])
    problem = LeastSquares(values)
    plain, cost, _ = follow(NDF(1e-6), problem, problem.start, 20.0)
    found, cheaper, _ = follow(NDF(1e-6, recycle=30), problem, problem.start, 20.0)
    assert cheaper < 0.75 * cost
    assert (found[0] - problem.exact(20.0)).norm() < 1e-4 * problem.start.norm()
    assert (plain[0] - problem.exact(20.0)).norm() < 1e-4 * problem.start.norm()


# parts


def test_conjugate_gradients_solve_the_shifted_system_and_recycled_pairs_invert_it_on_their_span(linear):
    c, r = 3.0, linear.start
    plain = solve(lambda v: linear.H @ v, c, r, Preconditioner(linear.H[:0], linear.H[:0], c), 1e-12, 50)
    A = torch.eye(8, dtype=F64) + c * linear.H
    torch.testing.assert_close(plain.x, torch.linalg.solve(A, r))
    V, HV = torch.stack(plain.V), torch.stack(plain.HV)
    # another c, the same pairs, which are conjugate for A but not for this one: the newest pair is met exactly
    other = 0.5
    M = Preconditioner(V, HV, other)
    torch.testing.assert_close(M(V[-1] + other * HV[-1]), V[-1])
    again = solve(lambda v: linear.H @ v, c, r, Preconditioner(V, HV, c), 1e-8, 50)
    assert len(again.V) <= 1
    torch.testing.assert_close(again.x, plain.x)


def test_a_direction_of_negative_curvature_ends_the_solve(linear):
    found = solve(
        lambda v: -linear.H @ v, 3.0, linear.start, Preconditioner(linear.H[:0], linear.H[:0], 3.0), 1e-9, 50
    )
    assert not found.ok


def test_the_spectral_radius_is_found_and_a_warm_estimate_costs_one_gradient(linear):
    ledger = Ledger(linear, 1e-5)
    g = linear(linear.start)
    found = spectral_radius(ledger, linear.start, g, Radius(0.0, g), 1e-5)
    assert found.value == pytest.approx(2.0, rel=1e-2)
    assert SAFETY * found.value > 2.0
    before = ledger.gradients
    spectral_radius(ledger, linear.start, g, found, 1e-3)
    assert ledger.gradients == before + 1
    product = difference_product(linear, linear.start, g, 1e3 * g)
    torch.testing.assert_close(product, 1e3 * linear.H @ g, rtol=1e-6, atol=1e-4)


def test_evidence_counts_every_gradient():
    calls = 0

    def field(theta):
        nonlocal calls
        calls += 1
        return pendulum(theta)

    start = torch.tensor([3.0, -2.5], dtype=F64)
    for kind in INTEGRATORS.values():
        method = kind()
        calls = 0
        memory = method.init(field, start, gradient=pendulum(start))
        assert calls == 0
        evidence = method.advance(field, memory, 2.0).evidence
        assert evidence.gradients == calls > 0
        assert evidence.ok
        assert evidence.steps > 0


# what goes wrong


@pytest.mark.parametrize("kind", INTEGRATORS.values())
def test_a_plateau_is_crossed_in_a_few_steps(kind):
    done_at = 50.0
    start = torch.tensor([1.0, 2.0], dtype=F64)
    method = kind()
    done = method.advance(torch.zeros_like, method.init(torch.zeros_like, start), done_at)
    assert done.evidence.ok
    assert torch.equal(done.theta, start)
    assert done.evidence.gradients < 100


@pytest.mark.parametrize("kind", ADAPTIVE)
def test_kinks_are_passed(kind):
    """L = |θ₁| + 2|θ₂ − 1| + θ²/2: the flow slides into kinks, where no smooth solution goes on."""

    def field(theta):
        return torch.stack([torch.sign(theta[0]), 2 * torch.sign(theta[1] - 1)]) + theta

    start = torch.tensor([0.7, 3.0], dtype=F64)
    method = kind(1e-3)
    done = method.advance(field, method.init(field, start), 0.3)  # before the kinks: θ' = −1 − θ
    assert done.evidence.ok
    assert done.theta[0] == pytest.approx(-1 + 1.7 * math.exp(-0.3), abs=1e-2)
    # beyond: either it gets through, or says that it cannot
    done = method.advance(field, done.memory, 3.0)
    assert done.evidence.gradients < 100_000
    assert done.evidence.ok or "rtol" in done.evidence.why


@pytest.mark.parametrize("rtol", [1e-4, 1e-5])
def test_a_relu_network_costs_little_more_than_with_rk4_and_less_at_the_floor(rtol):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=draw, dtype=F64)
    y = torch.sin(2 * x[:, :1])
    start = torch.randn(3 * 20 + 20, generator=draw, dtype=F64) * 0.5

    def field(theta):
        W, a = theta[:60].view(20, 3), theta[60:]
        hidden = x @ W.T
        active = hidden.clamp_min(0)
        residual = (active @ a)[:, None] - y
        back = residual * a * (hidden > 0) / len(x)
        return torch.cat([(back.T @ x).reshape(-1), (active.T @ residual)[:, 0] / len(x)])

    _, rk4, _ = follow(RK4(), field, start, 10.0, 20)
    (blunt,), least, _ = follow(RKC2(1e-3, floor=1.0), field, start, 10.0)
    (auto,), cost, _ = follow(Auto(rtol), field, start, 10.0)
    exact = follow(RK4(alpha=0.1), field, start, 10.0, 20)[0][-1]
    assert least < rk4
    assert cost < 1.2 * rk4
    assert (blunt - exact).norm() < 0.05 * (exact - start).norm()
    assert (auto - exact).norm() < 0.01 * (exact - start).norm()


@pytest.mark.parametrize("kind", ADAPTIVE)
def test_a_saddle_is_left_along_its_negative_curvature(kind):
    """L = Σ (θᵢ² − 1)²/4 from near the saddle at 0, with a stiff direction beside; θ² = 1/(1 + (1/θ₀² − 1)e^{−2t})."""
    start = torch.tensor([1e-3, -2e-3, 1.0], dtype=F64)

    def field(theta):
        return torch.stack([theta[0] ** 3 - theta[0], theta[1] ** 3 - theta[1], 500 * (theta[2] - 1)])

    found = follow(kind(1e-6), field, start, 12.0)[0][0]
    exact = start / torch.sqrt(start**2 + (1 - start**2) * math.exp(-24.0))
    torch.testing.assert_close(found[:2], exact[:2], rtol=0, atol=2e-2)


@pytest.mark.parametrize("kind", INTEGRATORS.values())
def test_a_gradient_that_is_not_finite_is_told(kind):
    start = torch.tensor([1.0, 2.0], dtype=F64)
    method = kind()

    def nowhere(theta):
        return torch.full_like(theta, math.nan)

    done = method.advance(nowhere, method.init(nowhere, start), 1.0)
    assert not done.evidence.ok
    assert done.evidence.diverged
    assert "not finite" in done.evidence.why


@pytest.mark.parametrize("kind", INTEGRATORS.values())
def test_blow_up_in_finite_time_ends_and_is_told(kind):
    """L = −θ⁴/4: θ(t) = 1/√(1 − 2t) is infinite at t = ½."""
    start = torch.ones(1, dtype=F64)
    method = kind()
    done = method.advance(lambda theta: -(theta**3), method.init(lambda theta: -(theta**3), start), 2.0)
    assert not done.evidence.ok
    assert done.evidence.gradients < 200_000
    assert done.memory["t"] < 2.0


@pytest.mark.parametrize("kind", ADAPTIVE)
def test_an_impossible_tolerance_in_float32_is_told(kind):
    problem = LeastSquares(torch.logspace(-1, 3, 30, dtype=F64))
    start = problem.start.float()

    def field(theta):
        return problem.H.float() @ (theta - problem.goal.float())

    method = kind(1e-9)
    done = method.advance(field, method.init(field, start), 50.0)
    assert not done.evidence.ok
    assert "float32 cannot reach rtol 1e-09" in done.evidence.why
    assert "float64" in done.evidence.why
    assert not done.evidence.diverged
    assert done.evidence.gradients < 50_000
    good = kind(1e-4)
    assert good.advance(field, good.init(field, start), 50.0).evidence.ok


def test_auto_changes_over_where_steps_are_rejected_and_keeps_time():
    """A gradient that jumps thirty times on the way: no step across a jump is of any order."""

    def field(theta):
        return theta + 0.5 * theta**2 * torch.sign(torch.sin(30 * theta))

    start = torch.tensor([1.5, 1.2], dtype=F64)
    method = Auto(1e-5)
    memory, seen, forced = method.init(field, start), set(), 0
    for tick in range(1, 41):
        done = method.advance(field, memory, tick * 0.05)
        assert done.evidence.ok, done.evidence.why
        memory = done.memory
        seen.add(done.evidence.method)
        forced += done.evidence.forced
    assert "auto/rk43" in seen
    assert memory["changes"] > 0
    exact = follow(RK4(max_step_size=1e-3, alpha=1e6), field, start, 2.0)[0][0]
    # blind at the jumps, and it says so
    assert forced > 0
    assert (done.theta - exact).norm() < 0.1 * (exact - start).norm()


def test_what_does_not_fit_is_refused(linear):
    with pytest.raises(InputError, match="rtol"):
        NDF(-1.0).init(linear, linear.start)
    with pytest.raises(InputError, match="one vector"):
        RKC2().init(linear, linear.start[None])
    with pytest.raises(InputError, match="max_order"):
        NDF(max_order=6)
    with pytest.raises(InputError, match="alpha"):
        RK4(alpha=0.0)
    method = NDF()
    memory = method.advance(linear, method.init(linear, linear.start), 5.0).memory
    with pytest.raises(InputError, match="finite time"):
        method.advance(linear, memory, 0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.rtol = 1.0
