"""The solvable systems in small: theory against itself, simulation against theory, refusals."""

from __future__ import annotations

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
from limen.toys.brownian import euler_exponent, quartic_wall, reflected_beyond
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
    assert not Check("", math.nan, 1.0, 0.1).holds


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
    assert all(np.array_equal(one.arrays[name], two.arrays[name]) for name in one.arrays)
    assert spread(lambda task: task**2, [3, 1, 2], 3) == [9, 1, 4]


def test_an_error_in_one_task_is_the_callers():
    with pytest.raises(ZeroDivisionError):
        spread(lambda task: 1 / task, [1, 0, 2], 2)


# theory against itself


def test_the_exponent_of_eulers_steps_tends_to_that_of_the_equation():
    gaps = [abs(euler_exponent(0.5, 1.2, h)[0] - (0.5 - 1.2**2 / 2)) for h in (0.008, 0.004, 0.002)]
    orders = np.log2(np.array(gaps[:-1]) / gaps[1:])
    assert np.allclose(orders, 1, atol=0.1)


def test_reflected_brownian_motion_is_half_normal_without_drift_and_exponential_with_drift_to_the_wall():
    depth, zero = np.linspace(0, 4, 9), np.zeros(1)
    half = np.array([math.erfc(d / math.sqrt(2 * 3.0)) for d in depth])
    assert np.allclose(reflected_beyond(depth, 1.5, 0.0, 2.0, zero), half, rtol=1e-12)
    late = reflected_beyond(depth, 1e4, -0.7, 2.0, zero)
    assert np.allclose(late, np.exp(-2 * 0.7 * depth / 2.0), rtol=1e-9)
    # far from the wall there is none
    away = reflected_beyond(np.array([100.0]), 1.0, 0.5, 2.0, np.array([100.0]))
    assert np.allclose(away, 1 - 0.5 * math.erfc(0.5 / math.sqrt(2 * 2.0)), rtol=1e-9)


def test_the_wall_of_the_quartic_holds_the_mass_of_its_density():
    exponent, variance = 0.4, 2.5
    x = np.linspace(-200, 4, 400_001)
    mass = np.trapezoid(np.exp((2 * exponent * x - np.exp(2 * x)) / variance), x)
    below = variance / (2 * exponent) * math.exp(2 * exponent * quartic_wall(exponent, variance) / variance)
    assert math.isclose(mass, below, rel_tol=1e-6)
    assert math.isclose(quartic_wall(1e-5, variance), quartic_wall(0.0, variance), rel_tol=1e-4)


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


def test_the_stationary_mode_is_s_less_half_the_noise_for_small_steps():
    exact = [teacher_student.stationary(0.8, 10.0 / math.sqrt(eta), eta) for eta in (1e-3, 1e-4, 1e-5)]
    assert exact == [0.0] * 3  # ησ² = 100: collapsed
    eta = 1e-5
    assert math.isclose(teacher_student.stationary(0.8, math.sqrt(0.6 / eta), eta), 0.5, rel_tol=1e-4)


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
    arrays = dict(outcomes["teacher-student"].arrays)
    eta = 3 / 1024
    end = int(np.flatnonzero(arrays["step"] == 5000)[0])
    assert not Outcome("", {}, {}, teacher_student.verdict(3 * eta, end, 2500, arrays)).holds
    arrays = dict(outcomes["neuron"].arrays)
    shifted = arrays | {"exponent_euler": arrays["exponent_euler"] + 0.1}
    assert not Outcome("", {}, {}, neuron.verdict(1.0, shifted)).holds


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
    assert np.allclose(arrays["arithmetic"][0, end], arrays["theory"][0, end], rtol=0.02, atol=1e-3)
    longer = arrays["phase_error"][2]
    assert longer[-1] < longer[0]  # a longer phase of large steps generalises better


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
        (two_neurons, {"sigmas": [-0.1]}, "sigmas: noise must be"),
        (two_neurons, {"lrs": [100.0]}, r"lr = 100 is beyond stability: it must be below 12\.88"),
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
