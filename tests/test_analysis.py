"""Distances, clocks and crossings: closed forms on runs whose every number is known."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_runs import FakeRun, Recorded
from scipy import stats

from limen import analysis
from limen.analysis.chi_square import quantile
from limen.analysis.clock import integral, runs_on
from limen.analysis.distance import band, matches, relative_error
from limen.dynamics.gd import GD
from limen.errors import InputError
from limen.linalg.projection import gaussian_projection, sketch_projection
from limen.objectives import Quadratic
from limen.probes import Iterates, Train
from limen.run import Experiment
from limen.store import record
from limen.types import Schedule

P, R = 40, 300


def matrix(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((R, P))


def descent(lr=0.1, every=5, n=40, **more: Any) -> FakeRun:
    """w_k = (1 − lr/2)^k w₀: descent on ½·½‖w‖²."""
    steps = np.arange(0, n, every)
    return moving(steps, np.cumsum([0, *[lr] * n])[steps], (1 - lr / 2) ** steps, lr=lr, **more)


def flow(tick=0.5, n=8, **more: Any) -> FakeRun:
    """w(t) = exp(−t/2) w₀."""
    steps = np.arange(n)
    return moving(steps, tick * steps, np.exp(-tick * steps / 2), command="flow", tick=tick, **more)


def moving(steps, t, sizes, w0=None, name="iterates", **spec: Any) -> FakeRun:
    w0 = np.ones(P) if w0 is None else w0
    words = {"dataset": "toy", "seed": 0, "nproj": R, "projection": "gaussian", **spec}
    records = {
        "iterates": Recorded(steps, t, sizes[:, None] * (matrix() @ w0)),
        "train_loss": Recorded(steps, t, sizes**2 / 4 * (w0 @ w0)),
    }
    return FakeRun(records, words, folder=Path(f"results/{spec.get('command', 'gd')}"))


@pytest.mark.parametrize("degrees", [1, 2, 3, 17, 500, 20_000])
@pytest.mark.parametrize("probability", [1e-4, 0.025, 0.5, 0.975])
def test_chi_square_quantiles_are_scipy_s(degrees, probability):
    assert quantile(probability, degrees) == pytest.approx(stats.chi2.ppf(probability, degrees), rel=1e-10)


def test_common_times_are_matched_to_rounding_and_never_between():
    t = np.cumsum([0.0] + [0.1] * 1_000_000)
    ticks = np.arange(0.0, 100_000.0, 2.5)
    ours, theirs = matches(t, ticks)
    np.testing.assert_array_equal(ours, 25 * np.arange(len(ticks)))
    np.testing.assert_array_equal(theirs, np.arange(len(ticks)))
    ours, theirs = matches(np.array([0.0, 0.3, 0.6]), np.array([0.1, 0.2, 0.4, 0.599]))
    assert (len(ours), len(theirs)) == (0, 0)


def test_estimated_distance_of_descent_from_its_flow_has_the_closed_form_in_its_band():
    apart = analysis.projected(descent(), flow())
    t = np.arange(8) * 0.5
    np.testing.assert_allclose(apart.t, t, rtol=1e-12)
    np.testing.assert_array_equal(apart.steps, 5 * np.arange(8))
    true = math.sqrt(P) * np.abs(0.95 ** (10 * t) - np.exp(-t / 2))
    scale = np.linalg.norm(matrix() @ np.ones(P)) / math.sqrt(R * P)
    np.testing.assert_allclose(apart.distance, true * scale, rtol=1e-12, atol=1e-14)
    assert (apart.low <= true).all()
    assert (true <= apart.high).all()
    np.testing.assert_allclose(
        apart.displacement, scale * math.sqrt(P) * (1 - np.exp(-t / 2)), rtol=1e-12, atol=1e-14
    )
    # one direction: the errors of both cancel in their quotient
    relative = true[1:] / (math.sqrt(P) * (1 - np.exp(-t[1:] / 2)))
    np.testing.assert_allclose(apart.relative[1:], relative, rtol=1e-10)
    assert math.isnan(apart.relative[0])
    gap = P / 4 * (0.95 ** (20 * t) - np.exp(-t))
    np.testing.assert_allclose(apart.loss_gap, gap, rtol=1e-10, atol=1e-14)
    assert apart.error == pytest.approx(1 / math.sqrt(2 * R))


@pytest.mark.parametrize(("first", "second"), [(descent(), flow()), (flow(), descent())])
def test_the_descent_comes_first_in_either_order(first, second):
    assert analysis.apart(first, second).steps[-1] == 35


def test_the_band_covers_as_often_as_it_says():
    draws = np.random.default_rng(1).standard_normal((20_000, 12))
    estimates = np.linalg.norm(draws, axis=1) / math.sqrt(12)  # of a vector of norm 1
    low, high = band(12)
    assert np.mean((low * estimates <= 1) & (high * estimates >= 1)) == pytest.approx(0.95, abs=0.006)
    many = np.linalg.norm(np.random.default_rng(2).standard_normal((20_000, 200)), axis=1) / math.sqrt(200)
    assert many.std() == pytest.approx(relative_error(200), rel=0.03)


@pytest.mark.parametrize(
    ("projection", "map"), [("gaussian", gaussian_projection), ("sketch", sketch_projection)]
)
def test_limen_s_own_projections_are_read_with_the_right_scale(projection, map):
    w0 = torch.linspace(-1, 1, 5000, dtype=torch.float64)
    row = map(w0, R).numpy()
    one, two = descent(projection=projection), flow(projection=projection)
    for run in (one, two):
        series = run.records["iterates"]
        sizes = series.values[:, 0] / series.values[0, 0]
        series.values = sizes[:, None] * row
    apart = analysis.projected(one, two)
    t = apart.t[1:]
    true = w0.norm().item() * np.abs(0.95 ** (10 * t) - np.exp(-t / 2))
    np.testing.assert_allclose(apart.distance[1:], true, rtol=4 * apart.error)
    assert (apart.low[1:] < true).all()
    assert (true < apart.high[1:]).all()


def test_stored_runs_have_the_distance_of_their_trajectories(tmp_path):
    curvatures, start = torch.tensor([1.0, 3.0], dtype=torch.float64), torch.tensor([1.0, 1.0])
    objective = Quadratic(torch.diag(curvatures), start.double())
    runs = []
    for lr, every in ((0.1, 4), (0.2, 2)):
        probes = [Train(), Iterates(2000, Schedule(every))]
        spec = {"command": "gd", "dataset": "quadratic", "lr": lr, "nproj": 2000, "projection": "gaussian"}
        runs.append(record(tmp_path / str(lr), Experiment(objective, GD(lr), 20, probes), spec=spec))
    apart = analysis.projected(*runs)
    np.testing.assert_array_equal(apart.steps, [0, 4, 8, 12, 16])
    steps = apart.steps[:, None]
    h = curvatures.numpy()
    true = np.linalg.norm((1 - 0.1 * h) ** steps - (1 - 0.2 * h) ** (steps // 2), axis=1)
    assert (apart.low <= true).all()
    assert (true <= apart.high).all()
    np.testing.assert_allclose(apart.distance, true, rtol=4 * apart.error)
    assert apart.reference == "other run"


def test_recorded_distances_are_exact():
    t = np.arange(4.0)
    distance, relative = np.array([0, 1.0, 2, 4]), np.array([0, 0.5, 0.5, 0.5])
    columns = {
        "distance": distance,
        "relative": relative,
        "loss_gap": -t,
        "path": 3 * t,
        "outputs_distance": 2 * t,
    }
    tracked = FakeRun({f"flow/{name}": Recorded(t, t, values) for name, values in columns.items()}, {"lr": 1})
    apart = analysis.apart(tracked)
    np.testing.assert_array_equal(apart.distance, distance)
    np.testing.assert_array_equal(apart.displacement[1:], [2, 4, 8])
    np.testing.assert_array_equal(apart.relative[1:], relative[1:])
    np.testing.assert_array_equal([apart.low, apart.high], [distance, distance])
    np.testing.assert_array_equal([apart.loss_gap, apart.path, apart.outputs], [-t, 3 * t, 2 * t])
    assert (apart.error, apart.projections, apart.reference) == (0, 0, "flow")
    with pytest.raises(InputError, match=r"no recorded distance to 'tighter'.*--certify"):
        analysis.apart(FakeRun(tracked.records, {"command": "flow"}))


@pytest.mark.parametrize(
    ("one", "two", "said"),
    [
        (descent(seed=1), flow(), r"seed is 1 in .*gd and 0 in .*flow: .* from one start"),
        (descent(dtype="float64"), flow(dtype="float32"), "dtype is 'float64'"),
        (descent(model={"width": 3}), flow(model={}), "model is {'width': 3}"),
        (descent(projection="sketch"), flow(), "in one projection"),
        (descent(nproj=3), flow(), "nproj is 3"),
        (descent(w0=2 * np.ones(P)), flow(), "do not start at the same weights"),
        (descent(), FakeRun({}), r"no projected iterates.*--nproj"),
        (
            descent(lr=0.1, every=1, n=4),
            flow(tick=0.25, n=2),
            r"--iterate_freq 5 in the first and 2 in the second",
        ),
        (descent(every=7), flow(tick=3.0), r"no common times.*--iterate_freq 30 in the first and 1 in"),
        (descent(), flow(tick=math.pi), "choose the tick of the second as a multiple of the lr of the first"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_fix(one, two, said):
    with pytest.raises(InputError, match=said):
        analysis.projected(one, two)


def test_two_landscapes_are_told_by_their_losses():
    other = flow()
    other.records["train_loss"].values *= 1.1
    with pytest.raises(InputError, match="two landscapes"):
        analysis.projected(descent(), other)


def test_what_float32_rounds_away_is_known():
    one, two = descent(), flow()
    assert analysis.projected(one, two).rounding.max() < 1e-13
    one.records["iterates"].values = one.records["iterates"].values.astype(np.float32)
    apart = analysis.projected(one, two)
    size = np.linalg.norm(matrix() @ np.ones(P)) / math.sqrt(R)
    # of the longer of the two, which shrink with time
    longer = np.maximum(0.95**apart.steps, np.exp(-apart.t / 2))
    np.testing.assert_allclose(apart.rounding, 2**-23 * size * longer, rtol=1e-6)


def test_a_diverged_run_is_compared_as_far_as_it_goes():
    one = descent()
    before = analysis.projected(one, flow())
    one.records["iterates"].values[-2] *= 1e20
    one.records["iterates"].values[-1] = np.inf
    apart = analysis.projected(one, flow())
    assert not np.isfinite(apart.distance[-1])
    assert np.isfinite(apart.distance[:-1]).all()
    # what is small early on is not lost in the rounding of what is great at the end
    np.testing.assert_array_equal(apart.rounding[:-2], before.rounding[:-2])
    assert (apart.distance[1:-1] > apart.rounding[1:-1]).all()


@pytest.mark.parametrize("opt", ["polyak", "nesterov"])
def test_momentum_has_another_clock_than_the_flow(opt):
    """On ½·½w² heavy ball goes as exp(−t/2/(1 − β)) in its own time t, ten times as fast as the flow at β = 0.9."""
    one = descent(opt=opt, beta=0.9)
    for pair in ((one, flow()), (flow(), one)):
        assert "lr/(1 − beta) a step, 10 times as fast" in (analysis.obstacle(*pair) or "")
        with pytest.raises(InputError, match=r"beta = 0\.9, which follows the flow in time"):
            analysis.apart(*pair)
    assert analysis.obstacle(descent(opt=opt, beta=0.0), flow()) is None
    assert analysis.obstacle(descent(opt="gd", beta=0.9), flow()) is None  # gd takes the word and ignores it


def test_ghost_batches_of_two_sizes_are_two_landscapes():
    one, two = descent(), flow()
    one.info, two.info = ({"ghost_batches": True, "physical_batch_size": size} for size in (1000, 500))
    with pytest.raises(InputError, match="physical_batch_size is 1000 in results/gd and 500 in results/flow"):
        analysis.projected(one, two)
    two.info["physical_batch_size"] = 1000
    assert analysis.obstacle(one, two) is None
    one.info, two.info = ({"ghost_batches": False, "physical_batch_size": size} for size in (1000, 500))
    assert analysis.obstacle(one, two) is None


def test_a_recorded_distance_of_exactly_zero_is_no_hole():
    t = np.arange(4.0)
    distance, relative = np.array([0, 0, 2.0, 3.0]), np.array([0, 0, 0.5, 0])
    columns = {"distance": distance, "relative": relative}
    tracked = FakeRun({f"flow/{name}": Recorded(t, t, values) for name, values in columns.items()})
    apart = analysis.recorded(tracked, "flow")
    # nothing has moved; not apart, displacement unknown; known; descent has moved and the flow has not
    np.testing.assert_array_equal(apart.displacement, [0, np.nan, 4, 0])
    np.testing.assert_array_equal(apart.relative, [np.nan, 0, 0.5, np.nan])


def test_a_band_below_a_hundredth_is_none_to_see():
    assert analysis.projected(descent(), flow()).banded
    many = analysis.projected(descent(), flow())
    assert not dataclasses.replace(many, low=0.996 * many.distance, high=1.004 * many.distance).banded
    assert dataclasses.replace(many, low=0.99 * many.distance, high=1.01 * many.distance).banded
    assert not dataclasses.replace(many, low=many.distance, high=many.distance).banded


def test_the_last_common_time_before_an_event():
    apart = analysis.projected(descent(), flow())
    assert [apart.last_until(t) for t in (-1, 0, 0.49, 0.5, 1.2, 99)] == [0, 0, 0, 1, 2, 7]


def eigenvalues(t, top, threshold=None) -> FakeRun:
    t, top = np.asarray(t, float), np.asarray(top, float)
    values = np.stack([top, top - 1], axis=1)
    return FakeRun({"eigs": Recorded(10 * np.arange(len(t)), t, values)}, threshold=threshold)


def test_crossing_is_the_first_measurement_above():
    run = eigenvalues([0, 1, 2, 3], [1, np.nan, 5, 4], threshold=3.0)
    assert analysis.crossing(run) == analysis.Crossing(20, 2.0, 5.0)
    assert analysis.crossing(eigenvalues([0, 1], [1, 2], threshold=3.0)) is None
    assert analysis.crossing(eigenvalues([0, 1], [1, 2])) is None
    assert analysis.crossing(FakeRun({}, threshold=1.0)) is None


def test_integral_of_sharpness_is_exact_where_it_is_linear():
    run = eigenvalues([1, 2, 4, 7], [3, 5, 9, 15])  # S = 2t + 1
    place = analysis.clock(run, "sharpness")
    t = np.linspace(1, 7, 13)
    np.testing.assert_allclose(place(t, t), t**2 + t - 2, rtol=1e-13, atol=1e-13)
    assert np.isnan(place(t, np.array([0.99, 7.01]))).all()
    assert runs_on(run, "sharpness")
    assert not runs_on(eigenvalues([1, 2], [3, np.nan]), "sharpness")
    assert not runs_on(FakeRun({}), "sharpness")
    assert runs_on(FakeRun({}), "time")
    holed = eigenvalues([1, 2, 4, 7], [3, np.nan, 9, 15])
    np.testing.assert_allclose(analysis.clock(holed, "sharpness")(t, t), t**2 + t - 2, rtol=1e-13, atol=1e-13)


def test_integral_of_sharpness_converges_with_order_two():
    errors = []
    for n in (20, 40, 80):
        knots = np.linspace(0, 2, n + 1)
        errors.append(abs(integral(knots, np.exp(knots), np.array([1.99]))[0] - math.expm1(1.99)))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.1)


def test_a_mode_of_the_flow_decays_by_the_sharpness_gone_through():
    """The clock's use: on a quadratic the top mode of the flow is exp(−∫S dt), whatever the curvature."""
    for curvature in (2.0, 50.0):
        t = np.linspace(0, 3, 31)
        place = analysis.clock(eigenvalues(t, np.full(31, curvature)), "sharpness")
        np.testing.assert_allclose(np.exp(-place(t, t)), np.exp(-curvature * t), rtol=1e-10)


def test_clocks_of_steps_and_time():
    run = eigenvalues([0, 1], [1, 1])
    steps, t = np.array([0, 3]), np.array([0.0, 0.6])
    np.testing.assert_array_equal(analysis.clock(run, "step")(steps, t), [0, 3])
    np.testing.assert_array_equal(analysis.clock(run, "time")(steps, t), [0, 0.6])
    with pytest.raises(InputError, match=r"two times at least, found 1.*--neigs 1"):
        analysis.clock(eigenvalues([0, 1], [1, np.nan]), "sharpness")
    with pytest.raises(InputError, match="found 0"):
        analysis.clock(FakeRun({}), "sharpness")
    with pytest.raises(InputError, match="expected one of step, time, sharpness"):
        analysis.clock(run, "epoch")  # type: ignore[arg-type]
