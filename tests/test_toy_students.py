"""Two neurons, teacher and student: the loops against the dynamics, and theory that no simulator shares."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limen.dynamics.label_noise_sgd import LabelNoiseSGD
from limen.objectives.units import Units
from limen.randomness import generator
from limen.toys import Outcome, relaxing, teacher_student, two_neurons
from limen.toys import teacher_student_general as general
from limen.toys.normals import Normals

SMALL: dict[str, Any] = {
    "lrs": [0.1, 0.2],
    "sigmas": [0.0, 0.4],
    "steps": 2500,
    "seeds": 4,
    "reference_seeds": 16,
}


class Shared:
    """A stream in place of `Normals` that hands out what `LabelNoiseSGD` draws."""

    def __init__(self, seed: int, name: str, index: int, dtype: torch.dtype = torch.float64) -> None:
        self.seed, self.step = 100 + index, 0

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """Return the noise of the next steps."""
        block = range(self.step, self.step + shape[0])
        self.step += shape[0]
        return torch.stack(
            [
                torch.randn(
                    shape[1], generator=generator(self.seed, "label_noise_sgd", step), dtype=torch.float64
                )
                for step in block
            ]
        )


def test_the_loop_of_the_two_neurons_is_label_noise_sgd_on_the_same_noise(monkeypatch):
    monkeypatch.setattr(two_neurons, "Normals", Shared)
    words = {"lrs": [0.2], "sigmas": [0.4], "steps": 1001, "seeds": 2, "reference_seeds": 2}
    out = two_neurons.run(**words)
    x, _, y, _ = two_neurons.data(0, 8)
    units = Units(x, y, 2, "gelu")
    for row, (lr, sigma) in enumerate(((0.2, 0.1), (0.1, 0.4))):
        rule = LabelNoiseSGD(lr, 0.9, sigma, seed=101)
        state = rule.init(units, torch.tensor(two_neurons.START, dtype=torch.float64))
        followed = [float(two_neurons.separation(state.w))]
        for _ in range(60):
            state, _ = rule.step(units.at(state), state)
            followed.append(float(two_neurons.separation(state.w)))
        assert np.allclose(out.arrays["distance"][row, 1, :61], followed, rtol=1e-9)


def test_the_linearised_separation_is_the_limit_of_a_small_one():
    x, _, y, _ = two_neurons.data(0, 8)
    units, sigma, eps, steps = Units(x, y, 2, "gelu"), 0.3, 1e-5, 40
    grid = np.arange(steps + 1)
    rate, noise = torch.tensor([[0.1]]).double(), torch.tensor([[sigma]]).double()
    log = two_neurons.across(units, rate, noise, 0.9, grid, [Normals(0, "here")])[0, 0]
    u1, u2, v1, v2 = two_neurons.START
    a, b = (u1 + u2) / 2, (v1 + v2) / 2
    w = torch.tensor(
        [
            a + eps * (u1 - u2) / 2,
            a - eps * (u1 - u2) / 2,
            b + eps * (v1 - v2) / 2,
            b - eps * (v1 - v2) / 2,
        ],
        dtype=torch.float64,
    )
    xi, velocity, found = Normals(0, "here").draw((two_neurons.BLOCK, 8)), torch.zeros(4).double(), []
    for step in range(steps + 1):
        found.append(float(two_neurons.separation(w).log()) - 2 * math.log(eps))
        velocity = 0.9 * velocity + units.gradient(w, sigma * xi[step])
        w = w - 0.1 * velocity
    assert np.allclose(log.numpy(), found, atol=1e-6)


def test_the_exponent_without_noise_is_the_largest_multiplier_of_heavy_ball():
    x, _, y, _ = two_neurons.data(0, 8)
    units = Units(x, y, 2, "gelu")
    grid = np.array([0, 1_500, 2_000])
    rate, noise = torch.tensor([[0.2]]).double(), torch.zeros(1, 1).double()
    log = two_neurons.across(units, rate, noise, 0.9, grid, [Normals(0, "here")])[0, 0].numpy()
    w = torch.tensor([0.8, 0.8, -0.5, -0.5], dtype=torch.float64)
    for _ in range(4_000):
        w = w - 0.5 * units.gradient(w)
    turn = torch.tensor([[1.0, -1, 0, 0], [0, 0, 1, -1]]).double() / math.sqrt(2)
    curvatures = torch.linalg.eigvalsh(turn @ units.hessian(w) @ turn.T)
    roots = [
        np.abs(np.roots([1, -(1.9 - 0.2 * float(value)), 0.9])).max() for value in curvatures
    ]  # of heavy ball on a quadratic
    assert math.isclose((log[2] - log[1]) / 500, 2 * math.log(max(roots)), rel_tol=1e-4, abs_tol=1e-9)


def test_the_exponent_holds_in_float32_and_a_wrong_one_is_found_out():
    out = two_neurons.run(**SMALL, dtype="float32")
    assert out.holds, [check.to_dict() for check in out.failed]
    steep = 3  # sigma = 0.4
    assert out.arrays["exponent"][steep] < -0.005
    wrong = dict(out.arrays) | {"exponent_theory": 2 * out.arrays["exponent_theory"]}
    assert not Outcome("", {}, {}, two_neurons.verdict(wrong, 4)).holds


def test_seeds_that_leave_are_counted_and_said():
    out = two_neurons.run(lrs=[0.5], sigmas=[0.0], steps=1500, seeds=5, reference_seeds=4)
    (check,) = out.checks
    assert "of 5 seeds stayed" in check.name
    assert check.skipped or out.arrays["stayed"][0] >= two_neurons.FEWEST


def test_the_seed_of_the_noise_leaves_the_data():
    words = SMALL | {"steps": 1000, "seeds": 2, "reference_seeds": 2}
    one, other, data = (
        two_neurons.run(**words, **seeds).arrays["distance"] for seeds in ({}, {"seed": 2}, {"data_seed": 2})
    )
    still = 2  # sigma = 0
    assert np.array_equal(one[still], other[still])
    assert not np.array_equal(one[0], other[0])
    assert not np.array_equal(one[still], data[still])


def test_the_law_of_a_mode_comes_to_rest_at_s_less_half_the_noise():
    s, eta = np.array([0.8]), 1e-3
    sigma = math.sqrt(0.4 / eta)
    law, _ = relaxing.relax(s, sigma, eta, 1.0, 20_000, [0, 20_000])
    mean, scatter = law.mean[-1, 0], law.scatter("mean")[-1, 0]
    assert math.isclose(mean, 0.6, rel_tol=2e-3)  # of order eta
    assert math.isclose(scatter**2, 0.6 * 0.4, rel_tol=5e-3)  # Gamma law of scale eta sigma^2
    shape = torch.tensor(0.6 / 0.4, dtype=torch.float64)
    assert math.isclose(law.log[-1, 0], float(torch.digamma(shape)) + math.log(0.4), abs_tol=5e-3)


def test_the_law_of_a_mode_is_that_of_many_simulated_ones():
    s, sigma, eta, paths = np.array([0.1, 0.5, 1.0]), 12.0, 3 / 1024, 40_000
    law, _ = relaxing.relax(s, sigma, eta, 0.1, 300, [0, 100, 300, 600])
    draw, products = np.random.default_rng(0), np.ones((paths, 3))
    for step in range(601):
        if step in (100, 300, 600):
            k = (100, 300, 600).index(step) + 1
            for which, values in (("mean", products), ("log", np.log(products))):
                error = values.std(0) / math.sqrt(paths)
                gap = np.abs(values.mean(0) - getattr(law, which)[k])
                assert (gap < 4 * error + 5e-4 * np.abs(values.mean(0))).all(), (step, which, gap / error)
        rate = eta if step < 300 else 0.1 * eta
        products *= (1 + rate * (s - products + sigma * draw.standard_normal((paths, 3)))) ** 2


def test_a_student_whose_rate_is_not_the_theorys_is_found_out():
    words = {
        "seeds": 256,
        "steps": 4000,
        "drop_at": 2000,
        "phases": (250,),
        "sigmas": (0.0, 10.0, 20.0),
        "n": 16,
    }
    right = teacher_student.run(**words)
    assert right.holds, [check.to_dict() for check in right.failed]
    quick = teacher_student.run(**words, drop=0.3)  # three times the rate after the drop
    for arrays, theory in ((quick.arrays, right.arrays), (right.arrays, quick.arrays)):
        said = [name for name in theory if name.endswith(("theory", "scatter"))]
        mixed = dict(arrays) | {name: theory[name] for name in said}
        checks = teacher_student.verdict(right.parameters, mixed)
        assert not Outcome("", {}, {}, checks).holds
        assert Outcome("", {}, {}, [one for one in checks if "at step 2000" in one.name]).holds
    far = teacher_student.run(**words, lr=3.6)
    said = [name for name in right.arrays if name.endswith(("theory", "scatter"))]
    mixed = dict(far.arrays) | {name: right.arrays[name] for name in said}
    assert not Outcome("", {}, {}, teacher_student.verdict(right.parameters, mixed)).holds


@pytest.mark.parametrize("batch", [3, 20])  # drawn with repeats refused, and shuffled
def test_a_minibatch_step_of_the_general_student_is_along_the_gradient(batch):
    words = {"examples": 32, "n": 4, "rank": 2, "steps": 3, "record": 1, "drops_at": ()}
    out = general.run(batches=(batch,), warm_up=0.5, warm_up_steps=1, **words)
    given = general.problem(0, 32, 4, 2, 0.5)
    uniform = Normals(0, "teacher-student-general/batch", batch).uniform
    blocks = general.draw_batches(uniform, 32, batch, general.BLOCK) if batch**2 <= 32 else None
    v, u = given.v0.clone().requires_grad_(), given.u0.clone().requires_grad_()
    for step in range(3):
        missing = (v @ u - given.w).detach()
        assert math.isclose(out.arrays["test_error"][0, step], float(missing.square().mean()), rel_tol=1e-10)
        test_loss = 0.5 * float((given.x_test @ missing).square().sum())
        assert math.isclose(out.arrays["test_loss"][0, step], test_loss, rel_tol=1e-10)
        index = blocks[step] if blocks is not None else torch.from_numpy(uniform.permutation(32)[:batch])
        loss = 0.5 * (given.x[index] @ v @ u - given.y[index]).square().sum() / batch
        gradients = torch.autograd.grad(loss, (v, u))
        v, u = ((p - 0.5 * g).detach().requires_grad_() for p, g in zip((v, u), gradients, strict=True))
