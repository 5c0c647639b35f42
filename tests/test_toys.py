"""The solvable systems in small: theory against itself, simulation against theory, refusals."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from limen.errors import InputError
from limen.objectives.neuron import Neuron
from limen.objectives.quartic import Quartic
from limen.objectives.units import Units
from limen.toys import Check, Outcome, neuron, quadratic, quartic, teacher_student, two_neurons, uv
from limen.toys import teacher_student_general as general
from limen.toys.brownian import euler_exponent
from limen.toys.confined import beyond
from limen.toys.fits import line, pooled
from limen.toys.normals import Normals
from limen.toys.parallel import spread
from limen.toys.paths import follow

SMALL: dict[Any, dict[str, Any]] = {
    quartic: {
        "zetas": [0.5, 1.0, 1.6, 1.9, 2.2, 2.6],
        "paths": 400,
        "dt": 0.01,
        "snapshots": (0, 1000, 2500),
        "shown_time": 0.1,
        "stationary": (0.5, 1.0),
        "stationary_paths": 1000,
        "stationary_time": 15.0,
    },
    neuron: {"etas": [0.5, 1.5, 2.0, 2.5, 4.0], "paths": 200, "times": (30.0,), "dt": 0.02},
    two_neurons: {"lrs": [0.1, 0.2], "sigmas": [0.0, 0.2], "steps": 1500, "reference_seeds": 16},
    teacher_student: {
        "seeds": 64,
        "steps": 5500,
        "drop_at": 5000,
        "phases": (500,),
        "sigmas": (0.0, 10.0, 20.0),
    },
    general: {
        "steps": 1500,
        "warm_up": 3e-3,
        "warm_up_steps": 500,
        "drops_at": (1000,),
        "batches": (1, 64, 1024),
    },
    uv: {
        "rates": [0.5, 1.5, 2.5, 3.3, 4.4],
        "width": 256,
        "seeds": 8,
        "steps": 200,
        "imbalances": [0.5, 3.0, 5.0],
    },
    quadratic: {"asymmetries": [1.0, 0.1], "starts": 100, "steps": 1000, "valley_steps": 2500},
}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    made = [system.run(**words, seed=1) for system, words in SMALL.items()]
    return {outcome.system: outcome for outcome in made}


# what an outcome says


def test_a_check_counts_standard_errors_beyond_its_allowance():
    assert math.isclose(Check("", 1.5, 1.0, 0.1, 0.3).deviation, 2.0)
    assert Check("", 1.5, 1.0, 0.1, 0.3).holds
    assert not Check("", 1.5, 1.0, 0.1).holds
    assert not Check("", 1.0 + 1e-9, 1.0, 0.0).holds
    assert Check("", math.nan, 1.0, 0.1).holds is False
    assert Check("", 1.0, 1.0, math.nan).holds is False


def test_a_bound_is_judged_on_one_side():
    assert Check("", -7.0, 2.0, 0.0, kind="at most").holds
    assert Check("", 2.0, 2.0, 0.0, kind="at most").holds
    assert not Check("", 2.0, 2.0, 0.0, kind="below").holds
    assert not Check("", 2.1, 2.0, 0.0, kind="at most").holds
    assert math.isclose(Check("", 2.5, 2.0, 0.1, 0.3, kind="at most").deviation, 2.0)


def test_where_nothing_could_be_checked_nothing_is_said_to_hold():
    skipped = Check.skip("a number", "there is none")
    assert Outcome("", {}, {}, []).holds is None
    assert Outcome("", {}, {}, [skipped]).holds is None
    assert Outcome("", {}, {}, [skipped, Check("", 1.0, 1.0, 0.1)]).holds is True
    assert Outcome("", {}, {}, [skipped, Check("", 9.0, 1.0, 0.1)]).holds is False
    told = Outcome("", {}, {}, [skipped]).to_dict()
    assert told["holds"] is None
    assert told["checks"][0]["skipped"] == "there is none"
    infinite = Outcome("", {}, {}, [Check("", 1.0, 1.0, math.inf, math.inf)]).to_dict()
    json.dumps(infinite, allow_nan=False)


def test_the_limit_of_a_verdict_is_exceeded_by_chance_in_three_of_a_thousand_seeds():
    draws = np.random.default_rng(0).standard_normal((200_000, 20))
    outcome = Outcome("", {}, {}, [Check("", 0.0, 0.0, 1.0)] * 20)
    failing = (np.abs(draws).max(1) > outcome.limit).mean()
    assert abs(failing - 0.0027) < 4 * math.sqrt(0.0027 / 200_000)
    assert math.isclose(Outcome("", {}, {}, [Check("", 0.0, 0.0, 1.0)]).limit, 3.0, rel_tol=1e-9)


# random numbers


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_normals_are_normal_and_independent(dtype):
    n = 400_001
    z = Normals(3, "test", dtype=dtype).draw((n,)).double()
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        sample = z**power
        assert abs(float(sample.mean()) - moment) < 4 * float(sample.std()) / math.sqrt(n)
    ranked = torch.special.ndtr(z.sort().values).numpy()
    assert np.abs(ranked - (np.arange(n) + 0.5) / n).max() < 1.82 / math.sqrt(n)
    half = (n + 1) // 2
    # a radius and an angle make two numbers: neither they nor their squares know of each other
    pairs = torch.stack([z[: n - half], z[half:]])
    assert abs(float(torch.corrcoef(pairs)[0, 1])) < 4 / math.sqrt(half)
    assert abs(float(torch.corrcoef(pairs.square())[0, 1])) < 4 / math.sqrt(half)
    other = Normals(3, "test", 1, dtype).draw((n,)).double()
    assert abs(float(torch.corrcoef(torch.stack([z, other]))[0, 1])) < 4 / math.sqrt(n)


def test_normals_are_a_function_of_seed_name_and_index():
    def first(*of: Any) -> torch.Tensor:
        return Normals(*of).draw((5,))

    assert torch.equal(first(1, "a", 2), first(1, "a", 2))
    assert not any(
        torch.equal(first(1, "a", 2), first(*of)) for of in ((2, "a", 2), (1, "b", 2), (1, "a", 3))
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("system", ["quartic", "neuron"])
def test_neither_threads_nor_groups_change_a_path(system, dtype):
    regression = Units(*neuron.data(0, 8, 0.1, dtype))
    noises = torch.linspace(0, 2, 7, dtype=dtype)

    def paths(**how: Any) -> torch.Tensor:
        def start(level: int) -> torch.Tensor:
            return 0.1 * Normals(0, "start", level).draw((51, 1 if system == "quartic" else 2))

        def make(levels: torch.Tensor) -> Quartic | Neuron:
            return Quartic(1.5, levels, dtype) if system == "quartic" else Neuron(regression, levels, 1.0)

        return follow(make, noises, start, 0.01, [0, 1, 40, 150], seed=0, name="x", **how)

    expected = paths(threads=1)
    assert expected.shape[:3] == (4, 7, 51)
    for how in ({"threads": 2}, {"threads": 1, "group": 1}, {"threads": 3, "group": 3}):
        assert torch.equal(paths(**how), expected)


def test_threads_do_not_change_a_verdict_and_leave_torch_as_it_was():
    words = SMALL[teacher_student] | {"seeds": 128, "steps": 300, "drop_at": 250, "phases": (50,)}
    torch.set_num_threads(2)
    try:
        one, two = (teacher_student.run(**words, threads=threads) for threads in (1, 2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert one.to_dict() == two.to_dict()
    assert all(np.array_equal(one.arrays[name], two.arrays[name], equal_nan=True) for name in one.arrays)
    assert spread(lambda task: task**2, [3, 1, 2], 3) == [9, 1, 4]


def test_an_error_in_one_task_is_the_callers():
    with pytest.raises(ZeroDivisionError):
        spread(lambda task: 1 / task, [1, 0, 2], 2)


# theory against itself


def test_the_exponent_of_eulers_steps_tends_to_that_of_the_equation():
    gaps = [abs(euler_exponent(0.5, 1.2, h)[0] - (0.5 - 1.2**2 / 2)) for h in (0.008, 0.004, 0.002)]
    orders = np.log2(np.array(gaps[:-1]) / gaps[1:])
    assert np.allclose(orders, 1, atol=0.1)


def test_confined_brownian_motion_is_free_far_below_the_well_and_gamma_in_the_end():
    start = np.array([-60.0, -45.0])
    free = [0.5 * math.erfc((34.0 + x - 0.3 * 8.0) / math.sqrt(2 * 8.0 * 1.5)) for x in start]
    assert np.allclose(beyond(34.0, [8.0], -0.3, 1.5, start)[0], free, atol=1e-4)
    # without a drift down, θ² has a Gamma law of shape λ/ζ² and scale ζ² in the end
    shape, variance = 0.1, 2.0
    tail = torch.special.gammainc(torch.tensor(shape), torch.tensor(math.exp(-2 * 8.0) / variance).double())
    late = beyond(8.0, [4000.0], shape * variance, variance, np.zeros(1))[0, 0]
    assert math.isclose(late, float(tail), rel_tol=2e-3)
    # at once, nothing has moved
    assert beyond(8.0, [0.0], 0.2, 2.0, np.array([-9.0, -1.0]))[0].round(6).tolist() == [1.0, 0.0]


def test_confined_brownian_motion_is_what_small_steps_do():
    from_one = np.zeros(4000)
    draws = np.random.default_rng(0)
    x, h, variance = from_one.copy(), 0.005, 3.0
    for _ in range(800):
        x += h * (-0.4 - np.exp(2 * x)) + math.sqrt(h * variance) * draws.standard_normal(4000)
    predicted = beyond(7.0, [4.0], -0.4, variance, from_one)[0, 0]
    assert abs((x < -7).mean() - predicted) < 3 * math.sqrt(predicted * (1 - predicted) / 4000)


def test_a_weighted_line_and_its_covariance():
    draws = np.random.default_rng(0)
    x, error = np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.1, 0.3, 0.2, 0.1])
    found = [line(x, 2 - 0.5 * x + error * draws.standard_normal(4), error) for _ in range(4000)]
    at, covariance = np.array([one[0] for one in found]), found[0][1]
    assert np.allclose(at.mean(0), [2, -0.5], atol=4 * np.sqrt(np.diag(covariance) / 4000).max())
    assert np.allclose(np.cov(at.T), covariance, rtol=0.1)


def test_pooled_deviations_are_normal_by_chance_and_large_together():
    draws = np.random.default_rng(0).standard_normal((20_000, 40))
    values = np.array([pooled("", row).measured for row in draws])
    assert abs(values.mean()) < 0.03
    assert abs(values.std() - 1) < 0.03
    assert not pooled("", 1.9 * np.ones(40)).holds  # none beyond 3 alone
    assert pooled("", np.zeros(0)).skipped


@pytest.mark.parametrize("zeta", [0.5, 1.0, 1.5])
def test_the_stationary_density_has_mass_one_and_its_moment(zeta):
    theta = np.geomspace(1e-9, 8, 400_001)
    density = quartic.density(theta, 1.5, zeta)
    weight = np.trapezoid(2 * density * theta, np.log(theta))
    assert math.isclose(weight, 1, rel_tol=1e-3)
    moment = np.trapezoid(2 * density * theta**3, np.log(theta))
    assert math.isclose(moment, quartic.second_moment(1.5, zeta), rel_tol=1e-6)


def test_the_logistic_solves_its_equation_also_where_it_dies():
    t, limit = np.linspace(0, 0.3, 3001), np.array([0.7, 0.0, -0.4])
    s = teacher_student.logistic(np.array([1.0, 1.0, 2.0]), limit, t)
    rate = np.gradient(s, t, axis=0)[1:-1]
    assert np.allclose(rate, (2 * s * (limit - s))[1:-1], atol=1e-5)
    assert s[0].tolist() == [1.0, 1.0, 2.0]


def test_the_student_in_the_singular_basis_is_the_matrix_student():
    given = teacher_student.problem(0, 40, 6, [0.5, 1.0], 0.5)
    w = teacher_student.teacher(0, 6, [0.5, 1.0])
    x = teacher_student.orthonormal(40, 6, Normals(0, "teacher-student/x"))
    assert torch.allclose(x.T @ x, torch.eye(6).double(), atol=1e-12)
    y = x @ w + 0.5 / math.sqrt(6) * Normals(0, "teacher-student/y").draw((40, 6))
    left, s, right = torch.linalg.svd(x.T @ y)
    assert torch.allclose(s, given.s)
    products = torch.linspace(0.1, 0.6, 6, dtype=torch.float64)
    student = left @ torch.diag(products) @ right
    train = 0.5 * (given.unexplained + (products - given.s).square().sum())
    assert torch.allclose(train, 0.5 * (y - x @ student).square().sum())
    error = given.teacher - 2 * (products * given.overlap).sum() + products.square().sum()
    assert torch.allclose(error / 36, (w - student).square().mean())


def test_batches_have_no_repeats_and_are_uniform():
    chosen = general.draw_batches(np.random.default_rng(0), 12, 3, 20_000)
    assert all(len(set(row)) == 3 for row in chosen.tolist())
    counts = np.bincount(chosen.flatten(), minlength=12)
    expected = 20_000 * 3 / 12
    assert np.abs(counts - expected).max() < 4 * math.sqrt(expected)


def test_a_full_batch_is_gradient_descent():
    given = general.problem(0, 32, 4, 2, 0.5)
    rates = {"warm_up": 0.05, "warm_up_steps": 4, "drops_at": (6,)}
    out = general.run(batches=(32,), examples=32, n=4, rank=2, steps=8, record=1, **rates)
    v, u = given.v0.clone().requires_grad_(), given.u0.clone().requires_grad_()
    for step, rate in enumerate(general.schedule(8, 0.05, 4, 0.1, (6,))):
        loss = 0.5 * (given.x @ v @ u - given.y).square().sum()
        assert math.isclose(out.arrays["train_loss"][0, step], loss.item(), rel_tol=1e-9)
        gradients = torch.autograd.grad(loss / 32, (v, u))
        v, u = ((p - rate * g).detach().requires_grad_() for p, g in zip((v, u), gradients, strict=True))


def test_published_data_of_the_two_neurons():
    torch.manual_seed(0)
    x, x_test, y, y_test = (torch.randn(8, 1) for _ in range(4))
    ours = two_neurons.data(0, 8)
    for a, b in zip(ours, (x, x_test, y, y_test), strict=True):
        assert torch.equal(a.float(), b[:, 0])


# simulation against theory, in small


@pytest.mark.parametrize("system", ["quartic", "neuron", "two-neurons", "teacher-student", "uv", "quadratic"])
def test_small_simulations_agree_with_theory(outcomes, system):
    outcome = outcomes[system]
    assert outcome.holds, [check.to_dict() for check in outcome.failed]
    assert outcome.checks
    assert all(np.asarray(values).dtype == np.float64 for values in outcome.arrays.values())


def test_a_wrong_theory_is_found_out(outcomes):
    right = outcomes["quartic"]
    wrong = quartic.verdict(1.5 * 1.1, 0.01, 400, dict(right.arrays))
    assert not Outcome("quartic", {}, {}, wrong).holds
    arrays = dict(outcomes["neuron"].arrays)
    shifted = arrays | {"exponent_euler": arrays["exponent_euler"] + 0.1}
    assert not Outcome("", {}, {}, neuron.verdict(1.0, shifted)).holds


def test_noise_off_by_one_per_cent_is_found_out_by_the_exponents_together():
    zeta = np.linspace(0.03, 3, 100)
    error = zeta / math.sqrt(5.0 * 1000)
    draws = error * np.random.default_rng(0).standard_normal(100)
    theory = 1.5 - zeta**2 / 2
    arrays = {"zeta": zeta, "exponent_error": error, "exponent_euler": theory}
    right, wrong = (
        quartic.together(1.5, arrays | {"exponent": 1.5 - (factor * zeta) ** 2 / 2 + draws})
        for factor in (1.0, 1.01)
    )
    assert Outcome("", {}, {}, right).holds
    assert not Outcome("", {}, {}, wrong).holds


def test_certain_fractions_are_not_counted_one_by_one():
    predicted = np.array([0.0, 1e-4, 0.4, 1.0, 1.0])
    found = quartic.collapsed(1.0, 1000, np.arange(5.0), np.array([0.0, 0.0, 0.41, 1.0, 1.0]), predicted)
    assert len(found) == 3
    assert all(check.holds for check in found)
    early = quartic.collapsed(1.0, 1000, np.arange(5.0), np.array([0.01, 0.0, 0.41, 1.0, 1.0]), predicted)
    late = quartic.collapsed(1.0, 1000, np.arange(5.0), np.array([0.0, 0.0, 0.41, 1.0, 0.99]), predicted)
    assert [sum(not check.holds for check in checks) for checks in (early, late)] == [1, 1]


@pytest.mark.parametrize("mu", [0.5, 3.0])
def test_the_quartic_of_another_mu_is_judged_at_noise_that_fits_it(mu):
    short = {"stationary_paths": 1000, "stationary_time": 20 / mu, "shown_time": 0.1, "paths": 100}
    outcome = quartic.run(mu=mu, zetas=[1.0], dt=0.01, snapshots=(10,), **short)
    assert np.allclose(outcome.arrays["stationary_zeta"] / math.sqrt(mu / 1.5), [0.5, 1, 1.5])
    assert outcome.holds, outcome.failed


def test_noise_collapses_the_quartic_well_beyond_its_threshold(outcomes):
    arrays = outcomes["quartic"].arrays
    last = dict(zip(arrays["zeta"], arrays["fraction"][-1], strict=True))
    assert last[0.5] == last[1.0] == 0.0
    assert last[2.6] > 0.5
    assert outcomes["quartic"].parameters["threshold"] == math.sqrt(3)


def test_the_neuron_dies_beyond_its_threshold(outcomes):
    arrays, bound = outcomes["neuron"].arrays, outcomes["neuron"].parameters["threshold"]
    assert arrays["fraction"][0, 0] < 0.05
    assert arrays["fraction"][0, -1] > 0.95
    assert (np.sign(arrays["exponent_theory"]) == np.sign(bound - arrays["eta"])).all()


def test_a_neuron_that_learns_minus_x_dies_like_one_that_learns_x():
    x = np.linspace(-1.5, 2, 8)
    short = {"etas": [1.0, 2.0, 4.0], "paths": 100, "times": (1.0,), "dt": 0.02}
    plus, minus = (neuron.run(inputs=x, targets=sign * x, **short) for sign in (1, -1))
    assert plus.parameters["threshold"] == minus.parameters["threshold"] == pytest.approx(2)
    assert minus.holds, minus.failed
    assert np.allclose(plus.arrays["exponent_theory"], minus.arrays["exponent_theory"])


def test_noise_makes_the_neurons_one_and_more_of_it_sooner(outcomes):
    arrays = outcomes["two-neurons"].arrays
    still = (arrays["sigma"] == 0) & (arrays["lr"] == 0.1)
    assert np.ptp(arrays["distance"][still][..., -100:]) < 1e-6  # without noise they stay apart
    assert arrays["exponent_theory"][1] < arrays["exponent_theory"][0] < 0  # larger lr
    assert arrays["exponent_theory"][3] < arrays["exponent_theory"][0]  # more noise


def test_label_noise_lowers_the_test_error_and_small_modes_die(outcomes):
    arrays = outcomes["teacher-student"].arrays
    assert (np.diff(arrays["test_error"][:, -1]) < 0).all()
    end = int(np.flatnonzero(arrays["step"] == 5000)[0])
    dead = arrays["s"] < 0.3  # well below ησ²/2 = 0.586
    assert (arrays["geometric"][2, end, dead] < 1e-2).all()
    assert np.allclose(arrays["arithmetic"][0, end], arrays["noise_free"][0, end], rtol=0.02, atol=1e-3)
    longer = arrays["phase_error"][2]
    assert longer[-1] < longer[0]  # a longer phase of large steps generalises better


def test_the_drift_of_lazy_networks_has_four_orders():
    rate = torch.tensor([0.3, 1.0, 1.7], dtype=torch.float64)
    series = uv.lazy_drift(rate, 200)
    assert torch.allclose(series[0], -(4 - rate) / (rate.square() * (2 - rate)), rtol=1e-12)
    gaps = []
    for strength in (2e-3, 1e-3):
        f, kernel = torch.ones(3).double(), rate.clone()
        for _ in range(200):  # at η = 1 and f₀ = 1 G is 1/m
            f, kernel = uv.recursion(f, kernel, torch.ones(3).double(), 1 / strength)
        exact = (kernel / rate - 1) / strength
        gaps.append((exact - sum(a * strength**n for n, a in enumerate(series))).abs())
    order = torch.log2(gaps[0] / gaps[1])
    assert torch.allclose(order, torch.tensor(4.0).double(), atol=0.2), order


def test_where_every_product_diverges_as_it_should_its_rest_is_not_judged():
    outcome = uv.run(rates=[4.3, 4.4], seeds=4)
    assert outcome.holds
    assert [check.name for check in outcome.skipped] == ["largest eta lambda at rest"]


def test_a_run_that_ends_above_the_edge_or_is_lost_is_found_out(outcomes):
    arrays = dict(outcomes["uv"].arrays)
    above = arrays | {"final": arrays["final"] + 1.2}
    lost = arrays | {"recursion_error": np.full(len(arrays["rate"]), np.nan)}
    for changed in (above, lost):
        assert len(Outcome("", {}, {}, uv.verdict(256, 0.5, 2e-16, changed)).failed) == 1


def test_the_valley_is_as_its_second_order_says_and_not_otherwise(outcomes):
    arrays = outcomes["quadratic"].arrays
    row = {name: arrays[name][0] for name in quadratic.VALLEY}
    assert not [c for c in quadratic.valley(0.01, 0.5, 2e-16, row) if not c.holds]
    for name, share in (
        ("mean_sharpness", 1e-6),
        ("mean_square", 1e-3),
        ("period", 2e-4),
        ("energy_gain", 1e-3),
    ):
        wrong = row | {name: row[name] * (1 + share)}
        assert [c.holds for c in quadratic.valley(0.01, 0.5, 2e-16, wrong)].count(False) == 1, name


def test_oscillations_that_grow_without_bound_are_not_judged():
    outcome = quadratic.run(drift=0.5, lr=0.9, starts=20, asymmetries=[1.0], steps=200)
    assert outcome.holds
    assert len(outcome.skipped) == 9
    json.dumps(outcome.to_dict(), allow_nan=False)


def test_a_catapult_comes_to_rest_below_the_edge(outcomes):
    arrays = outcomes["uv"].arrays
    rate = arrays["rate"]
    assert (arrays["final"][(rate > 2) & (rate < 4)] < 2).all()
    assert np.isnan(arrays["final"][rate > 4]).all()
    peak = arrays["loss"].max(1) / arrays["loss"][:, 0]
    assert (peak[rate < 2] <= 1 + 1e-12).all()
    assert (peak[(rate > 2) & (rate < 4)] > 2).all()


def test_float32_statistics_agree():
    words = SMALL[quartic] | {"zetas": [1.9, 2.6]}
    assert quartic.run(**words, dtype="float32").holds
    words = SMALL[teacher_student] | {"sigmas": (5.0,), "steps": 4000, "drop_at": 3500}
    assert teacher_student.run(**words, dtype="float32").holds


def test_one_seed_gives_one_result_and_another_another():
    words = SMALL[quartic] | {
        "stationary_paths": 10,
        "stationary_time": 1.0,
        "paths": 10,
        "snapshots": (50,),
        "zetas": [1.0],
    }
    one, again, other = (quartic.run(**words, seed=seed).arrays["stationary_theta"] for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


# refusals, each with its bound


@pytest.mark.parametrize(
    ("system", "words", "said"),
    [
        (quartic, {"zetas": [-0.1]}, r"zetas: noise must be finite and at least 0, got -0\.1"),
        (quartic, {"zetas": []}, "expected at least one value"),
        (quartic, {"snapshots": (-5,)}, "snapshots must be at least 0, got -5"),
        (quartic, {"snapshots": ()}, "snapshots: expected at least one value"),
        (quartic, {"shown_time": 0.0}, "shown_time must be a positive number"),
        (quartic, {"dt": 0.1}, r"dt = 0\.1 is beyond stability: it must be below 0\.0203"),
        (quartic, {"mu": -1.0}, "mu must be a positive number"),
        (quartic, {"stationary": [1.8]}, r"below|sqrt\(2 mu\) = 1\.73205"),
        (quartic, {"dtype": "float16"}, "expected float64 or float32, got 'float16'"),
        (quartic, {"paths": 1}, "paths must be at least 2"),
        (quartic, {"threads": 0}, "threads must be at least 1"),
        (neuron, {"etas": [1.0, -1.0]}, "etas: noise must be"),
        (neuron, {"zeta": -1.0}, "zeta, noise: noise must be"),
        (neuron, {"dt": 5.0}, r"dt = 5 is beyond stability: it must be below 0\.\d+, 2 over the sharpness"),
        (neuron, {"activation": "relu"}, "unknown activation 'relu'"),
        (neuron, {"inputs": [1.0]}, "expected both or neither"),
        (neuron, {"times": (-1.0,)}, "times must be a positive number, got -1"),
        (neuron, {"times": (math.inf,)}, "times must be a positive number, got inf"),
        (neuron, {"times": ()}, "times: expected at least one value"),
        (two_neurons, {"sigmas": [-0.1]}, "sigmas: noise must be"),
        (two_neurons, {"lrs": [100.0]}, r"lr = 100 is beyond stability: it must be below 3\.93"),
        (two_neurons, {"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        (teacher_student, {"sigmas": [math.inf]}, "sigmas: noise must be finite"),
        (teacher_student, {"lr": 2000.0}, "lr = 2000 is beyond stability"),
        (teacher_student, {"drop_at": 60_000}, "drop_at must lie between 0 and steps"),
        (teacher_student, {"phases": (50_000,)}, "phases must lie in"),
        (teacher_student, {"rank": 65}, "rank must lie in"),
        (general, {"batches": (0,)}, "expected 1 … 1024 examples, got 0"),
        (general, {"warm_up": 1e-3}, "is beyond stability"),
        (uv, {"rates": [9.0]}, "is beyond stability"),
        (uv, {"scalar_lr": 1.5}, "scalar_lr = 1.5 is beyond stability: it must be below 1,"),
        (uv, {"width": 0}, "width must be at least 1, got 0"),
        (uv, {"imbalances": [0.0]}, "imbalances must be a positive number"),
        (quadratic, {"starts": 0}, "starts must be at least 1, got 0"),
        (quadratic, {"lr": 2.0}, "is beyond stability"),
        (quadratic, {"asymmetries": [-0.5]}, "asymmetries must be a positive number"),
    ],
)
def test_bad_parameters_are_refused_with_the_bound(system, words, said):
    with pytest.raises(InputError, match=said):
        system.run(**words)


def test_an_exploding_path_is_an_error_that_names_the_remedy():
    with pytest.raises(InputError, match="lower dt, or the noise"):
        quartic.run(
            **SMALL[quartic]
            | {"zetas": [60.0], "dt": 0.02, "stationary_paths": 10, "paths": 10, "stationary_time": 1.0}
        )
