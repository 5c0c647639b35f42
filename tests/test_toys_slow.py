"""The check values of the solvable systems, each within three standard errors of both simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from limen.toys import neuron, quartic, teacher_student, two_neurons
from limen.toys import teacher_student_general as general

pytestmark = pytest.mark.slow

PATHS = 1000
"""Of the simulations that the values are from, and of these."""


def agree(measured: float, value: float, paths: int = PATHS) -> bool:
    """Whether two fractions from so many paths each can be of one probability."""
    pooled = (measured * paths + value * PATHS) / (paths + PATHS)
    error = math.sqrt(max(pooled * (1 - pooled), 1 / PATHS) * (1 / paths + 1 / PATHS))
    return abs(measured - value) < 3 * error + 0.0005  # the values are rounded


def test_quartic_moments_and_collapsed_fractions():
    zetas = {1.7: 0.073, math.sqrt(3): 0.174, 1.8: 0.514, 2.0: 0.994}
    out = quartic.run(zetas=list(zetas), paths=PATHS, snapshots=(0, 80_000))
    assert out.holds, out.failed
    for measured, value in zip(out.arrays["fraction"][-1], zetas.values(), strict=True):
        assert agree(measured, value), (measured, value)
    for theta, value in zip(out.arrays["stationary_theta"], (1.375, 0.997, 0.378), strict=True):
        square = theta**2
        error = square.std() * math.sqrt(1 / len(square) + 1 / PATHS)
        assert abs(square.mean() - value) < 3 * error


def test_quartic_in_float32_agrees_with_theory():
    out = quartic.run(zetas=np.linspace(1.5, 3, 16).tolist(), snapshots=(0, 10_000, 40_000), dtype="float32")
    assert out.holds, out.failed


def test_neuron_probabilities_of_death():
    values = {0.5: 0.002, 0.8: 0.122, 0.9: 0.36, 1.0: 0.70, 1.1: 0.918, 1.2: 0.984, 1.5: 1.0}
    draw = np.random.default_rng(0)  # the data that the values are of
    x = draw.standard_normal(32)
    y = x + 0.1 * draw.standard_normal(32)
    threshold = 2 * float((x * y).sum() / (x * x).sum())
    etas = [ratio * threshold for ratio in values]
    out = neuron.run(etas=etas, paths=PATHS, times=(400.0,), inputs=x.tolist(), targets=y.tolist())
    assert out.holds, out.failed
    assert math.isclose(out.parameters["threshold"], threshold, rel_tol=1e-12)
    for measured, value in zip(out.arrays["fraction"][-1], values.values(), strict=True):
        assert agree(measured, value), (measured, value)


def test_two_neurons_meet_faster_for_larger_steps_and_noise():
    out = two_neurons.run()
    assert out.holds, out.failed
    theory = out.arrays["exponent_theory"]
    assert (np.diff(theory[:5]) < 0).all()  # lr 0.1 … 0.5
    assert (np.diff(theory[5:]) < 0).all()  # sigma 0 … 0.8
    kept = out.arrays["exponent"][np.isfinite(out.arrays["exponent"])]
    assert len(kept) >= 7


def test_teacher_student_modes():
    out = teacher_student.run(phases=(2000, 20_000))
    assert out.holds, out.failed
    arrays = out.arrays
    assert np.allclose(out.parameters["collapse_below"][1:], [0.0366, 0.1465, 0.3296, 0.5859], atol=5e-5)
    end = int(np.flatnonzero(arrays["step"] == 50_000)[0])
    mode = int(np.abs(arrays["s"] - 0.82).argmin())
    for level, value in ((2, 0.683), (4, 0.228)):
        # the values are of s = 0.82: a mode nearby differs by as much as its s does
        measured = arrays["arithmetic"][level, end, mode] + 0.82 - arrays["s"][mode]
        assert abs(measured - value) < 3 * math.sqrt(2) * arrays["error"][level, end, mode]
    noisy = arrays["phase_error"][3:]
    assert (noisy[:, 1] < noisy[:, 0]).all()  # a longer phase of large steps generalises better


def test_small_batches_of_the_general_student_generalise_better():
    out = general.run(batches=(1, 1024))
    assert out.holds, out.failed
    small, full = out.arrays["test_error"][:, -1]
    assert small < 0.8 * full
    drop = int(np.flatnonzero(out.arrays["step"] == 50_000)[0])
    assert out.arrays["train_loss"][0, -1] < out.arrays["train_loss"][0, drop]
