"""Every eigenvalue of runs that cross the edge of stability, against tight float64 solves at the same weights.

A run in float32 with the solver, the audits and the tolerance of every run; beside it, at each measurement, the same
weights in float64 with the same chunks, solved from a fresh random block that has never seen the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from limen import GD, Eigs, Experiment, Need, Schedule, Supervised, data, models
from limen.linalg.krylov import Eigenpairs, top_eigenpairs
from limen.types import Mark, Record

EVERY, TOP = 10, 2
DIGITS, ENGLISH = {"n": 200}, {"n": 40, "n_test": 4, "length": 8, "vocabulary": 60}
WORDS = {"n": 100, "n_test": 4, "length": 16, "vocabulary": 300}


@dataclass(frozen=True)
class Crossing:
    """A run whose sharpness goes from below 0.9 to above 1.1 thresholds."""

    dataset: str
    net: str
    loss: str
    lr: float
    steps: int
    sizes: dict[str, Any]
    of_data: dict[str, Any]
    chunk: int = 1000

    def objective(self, dtype: torch.dtype) -> Supervised:
        made = data.load(self.dataset, self.of_data)
        net = models.build(self.net, input_shape=made.input_shape, outputs=made.outputs, arguments=self.sizes)
        return Supervised(
            net, made.inputs, made.targets, self.loss, physical_batch_size=self.chunk, dtype=dtype
        )


def tight(objective: Supervised, w: torch.Tensor, seed: int) -> Eigenpairs:
    """Return the top pairs at `w` from a random block, to 1e-8."""
    found = top_eigenpairs(
        objective.point(w.double(), need=Need.CURVATURE).curvature(),
        TOP,
        tol=1e-8,
        generator=torch.Generator().manual_seed(seed),
        max_products=3000,
        max_basis=80,
    )
    assert found.converged
    return found


def follow(crossing: Crossing) -> tuple[list[float], list[float]]:
    """Return sharpness / threshold and the worst relative error of each measurement of a run."""
    single, double = crossing.objective(torch.float32), crossing.objective(torch.float64)
    events = Experiment(single, GD(crossing.lr), crossing.steps, [Eigs(TOP, Schedule(EVERY))]).run()
    ratios, errors, w = [], [], single.start()
    for event in events:
        match event:
            case Mark(state=there):
                w = there.w
            case Record(step=step, values=values):
                true = tight(double, w, seed=1000 + step).values
                found = torch.tensor(values["eigs"], dtype=torch.float64)
                errors.append(float(((found - true) / true).abs().max()))
                ratios.append(float(true[0]) * crossing.lr / 2)
    return ratios, errors


def check(crossing: Crossing) -> None:
    ratios, errors = follow(crossing)
    assert len(errors) == crossing.steps // EVERY
    below = next(k for k, ratio in enumerate(ratios) if ratio < 0.9)
    assert max(ratios[below:]) > 1.1, "it did not cross the edge"
    assert max(errors) < 1e-3, f"worst at measurement {errors.index(max(errors))}"


@pytest.mark.parametrize(
    "crossing",
    [
        Crossing("digits", "fc-tanh", "mse", 0.5, 140, {"width": 24}, DIGITS),
        Crossing("digits", "cnn-relu", "ce", 0.1, 80, {"width": 8}, DIGITS),
        Crossing("digits", "cnn-bn-relu", "ce", 0.05, 60, {"width": 8}, DIGITS, chunk=100),
        Crossing(
            "english", "transformer", "ce", 0.3, 60, {"width": 16, "feedforward": 16}, ENGLISH, chunk=15
        ),
    ],
    ids=lambda crossing: crossing.net,
)
def test_every_eigenvalue_through_the_edge(crossing: Crossing) -> None:
    check(crossing)


@pytest.mark.slow
@pytest.mark.parametrize(
    "crossing",
    [
        Crossing("digits", "fc-tanh", "mse", 0.3, 250, {}, {}),
        Crossing("digits", "cnn-relu", "ce", 0.08, 100, {}, {}),
        Crossing(
            "digits", "cnn-bn-relu", "ce", 0.03, 80, {}, {"n": 500, "label_noise": 0.3}, chunk=250
        ),  # with true labels its sharpness falls
        Crossing("english", "transformer", "ce", 0.2, 80, {"width": 64, "feedforward": 64}, WORDS, chunk=64),
    ],
    ids=lambda crossing: crossing.net,
)
def test_every_eigenvalue_through_the_edge_at_size(crossing: Crossing) -> None:
    check(crossing)
