"""The eight schedules: closed forms, and torch's own schedulers where they have the same."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim import lr_scheduler as theirs

from limen.dynamics.schedules import (
    SCHEDULES,
    Constant,
    CosineDecay,
    CosineDecayWithWarmup,
    CosineWarmRestart,
    LinearDecay,
    LinearDecayWithWarmup,
    MultiStep,
    MultiStepWithWarmup,
)
from limen.errors import InputError


def by_torch(make, steps):
    """Factors of a base rate 1 as a torch scheduler sets them, batch by batch."""
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimiser)
    found = []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("ours", "make", "steps"),
    [
        (Constant(), lambda o: theirs.ConstantLR(o, 1.0), 20),
        (MultiStep((4, 9, 9, 30)), lambda o: theirs.MultiStepLR(o, [4, 9, 9, 30]), 40),
        (CosineDecay(30), lambda o: theirs.CosineAnnealingLR(o, 30), 31),
        (CosineDecay(17, 0.2), lambda o: theirs.CosineAnnealingLR(o, 17, 0.2), 18),
        (CosineWarmRestart(7), lambda o: theirs.CosineAnnealingWarmRestarts(o, 7), 40),
        (CosineWarmRestart(5, 2, 0.1), lambda o: theirs.CosineAnnealingWarmRestarts(o, 5, 2, 0.1), 80),
        (LinearDecay(25), lambda o: theirs.LinearLR(o, 1.0, 0.0, 25), 40),
        (LinearDecay(25, 0.8, 0.3), lambda o: theirs.LinearLR(o, 0.8, 0.3, 25), 40),
    ],
)
def test_is_torchs_schedule(ours, make, steps):
    assert [ours(k) for k in range(steps)] == pytest.approx(by_torch(make, steps), abs=1e-12)


def test_multistep_falls_by_ten_at_each_milestone():
    schedule = MultiStep((10, 20))
    assert [schedule(k) for k in (0, 9, 10, 19, 20, 10**7)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_warm_up_is_a_line_from_zero():
    for schedule in (
        MultiStepWithWarmup(10, (50,)),
        CosineDecayWithWarmup(10, 100),
        LinearDecayWithWarmup(10, 100),
    ):
        assert [schedule(k) for k in range(11)] == pytest.approx([k / 10 for k in range(11)], abs=1e-15)


def test_milestones_count_from_the_start_and_not_from_the_warm_up():
    schedule = MultiStepWithWarmup(10, (50,))
    assert [schedule(k) for k in (49, 50)] == pytest.approx([1, 0.1])


def test_decays_after_a_warm_up_end_at_t_max():
    cosine, line = CosineDecayWithWarmup(10, 110, 0.2), LinearDecayWithWarmup(10, 110, 2.0, 0.5)
    for k in range(10, 120):
        x = min(1, (k - 10) / 100)
        assert cosine(k) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi * x)) / 2, abs=1e-15)
        assert line(k) == pytest.approx(2 - 1.5 * x, abs=1e-15)
    assert line(5) == 1.0


def test_no_warm_up_is_none():
    assert [MultiStepWithWarmup(0, (3,))(k) for k in (0, 2, 3)] == pytest.approx([1, 1, 0.1])


def test_the_names_are_the_published_ones():
    assert set(SCHEDULES) == {
        "constant", "multistep", "multistep_with_warmup", "cosine_decay", "cosine_decay_with_warmup",
        "cosine_warmrestart", "linear_decay", "linear_decay_with_warmup",
    }  # fmt: skip
    assert Constant(0.5).describe() == {"name": "constant", "alpha": 0.5}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Constant(-1.0), "alpha"),
        (lambda: MultiStep((-1,)), "milestones"),
        (lambda: MultiStep((1,), math.inf), "gamma"),
        (lambda: MultiStepWithWarmup(-1, ()), "t_warmup"),
        (lambda: CosineDecay(0), "t_max must be at least 1 step"),
        (lambda: CosineDecay(1, -0.1), "alpha_f"),
        (lambda: CosineDecayWithWarmup(10, 9), "t_max must not be before"),
        (lambda: CosineWarmRestart(0), "t_0"),
        (lambda: CosineWarmRestart(1, 0), "t_mult"),
        (lambda: LinearDecay(5, math.nan), "alpha_i"),
        (lambda: LinearDecayWithWarmup(3, 2), "t_max"),
    ],
)
def test_times_and_factors_out_of_range_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()
