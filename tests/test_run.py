"""The loop: what it yields, in which order, and how it ends."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from limen import GD, Eigs, Experiment, Goals, Iterates, Quadratic, Schedule, Supervised, Test, Train
from limen.errors import InputError
from limen.types import End, Mark, Record, Status

A = torch.diag(torch.tensor([2.0, 0.5], dtype=torch.float64))


def bowl() -> Quadratic:
    return Quadratic(A, torch.ones(2, dtype=torch.float64))


def digits_like(**kwargs: object) -> Supervised:
    torch.manual_seed(0)
    x, y = torch.randn(40, 5), torch.arange(40) % 3
    return Supervised(
        nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)), x, y, "ce", test=(x, y), **kwargs
    )  # type: ignore[arg-type]


def test_measures_before_the_update_and_ends_after_the_last() -> None:
    events = list(Experiment(bowl(), GD(0.1), 3, [Train()]).run())
    kinds = [type(e).__name__ for e in events]
    assert kinds == ["Mark", "Record"] * 3 + ["Mark", "End"]
    losses = [e.values["train_loss"] for e in events if isinstance(e, Record)]
    # w_t = (1 - 0.1 λ)^t in each direction
    assert losses == pytest.approx([0.5 * (2 * 0.8 ** (2 * t) + 0.5 * 0.95 ** (2 * t)) for t in range(3)])
    last = events[-2]
    assert isinstance(last, Mark)
    assert last.step == 3
    assert last.state.w.tolist() == pytest.approx([0.8**3, 0.95**3])
    assert float(last.state.t) == pytest.approx(0.3)
    assert events[-1] == End(Status.FINISHED, "all 3 steps done")


def test_going_on_from_any_mark_gives_the_same_events() -> None:
    experiment = Experiment(
        digits_like(), GD(0.1), 12, [Train(), Test(Schedule(3)), Eigs(2, Schedule(4)), Iterates(3)]
    )
    whole = list(experiment.run())
    records = [e for e in whole if isinstance(e, Record)]
    for mark in [e for e in whole if isinstance(e, Mark)]:
        again = [e for e in experiment.run(mark) if isinstance(e, Record)]
        expected = [r for r in records if r.step >= mark.step]
        assert [(r.probe, r.step, r.t) for r in again] == [(r.probe, r.step, r.t) for r in expected]
        for ours, theirs in zip(again, expected, strict=True):
            assert all(
                torch.equal(torch.as_tensor(ours.values[k]), torch.as_tensor(theirs.values[k]))
                for k in theirs.values
            )


def test_probes_look_at_their_steps_only() -> None:
    events = Experiment(digits_like(), GD(0.1), 9, [Train(), Test(Schedule(4)), Eigs(1, Schedule(3))]).run()
    seen: dict[str, list[int]] = {}
    for event in events:
        if isinstance(event, Record):
            seen.setdefault(event.probe, []).append(event.step)
    assert seen == {"train": list(range(9)), "test": [0, 4, 8], "eigs": [0, 3, 6]}


def test_measuring_does_not_change_the_trajectory() -> None:
    def final(*probes: object) -> torch.Tensor:
        marks = [e for e in Experiment(digits_like(), GD(0.3), 15, probes).run() if isinstance(e, Mark)]  # type: ignore[arg-type]
        return marks[-1].state.w

    assert torch.equal(final(), final(Train(), Test(), Eigs(3), Iterates(5)))


def test_a_loss_that_is_not_finite_ends_the_run_and_is_kept() -> None:
    # above 2/λ the loss grows by a factor 9 a step until float64 overflows
    events = list(Experiment(bowl(), GD(2.0), 5000, [Train(), Eigs(1), Iterates(2)]).run())
    end, records = events[-1], [e for e in events if isinstance(e, Record)]
    assert isinstance(end, End)
    assert end.status is Status.DIVERGED
    assert "smaller lr" in end.why
    last = max(r.step for r in records)
    assert f"step {last};" in end.why
    at_end = {r.probe: r.values for r in records if r.step == last}
    assert not math.isfinite(at_end["train"]["train_loss"])
    assert set(at_end) == {"train", "iterates"}  # no curvature where there is no loss


@pytest.mark.parametrize(
    ("goals", "words"),
    [(Goals(loss_goal=0.9), "below the goal 0.9"), (Goals(acc_goal=0.5), "above the goal 0.5")],
)
def test_a_goal_stops_before_the_update(goals: Goals, words: str) -> None:
    events = list(Experiment(digits_like(), GD(1.0), 500, [Train()], stop=goals).run())
    end, records = events[-1], [e for e in events if isinstance(e, Record)]
    assert isinstance(end, End)
    assert end.status is Status.FINISHED
    assert words in end.why
    marks = [e for e in events if isinstance(e, Mark)]
    assert marks[-1].step == records[-1].step  # its step is measured, the update is not made
    key = "train_loss" if goals.loss_goal else "train_acc"
    met = [(r.values[key] < 0.9) if goals.loss_goal else (r.values[key] > 0.5) for r in records]
    assert met == [False] * (len(records) - 1) + [True]


def test_refuses_a_run_that_makes_no_sense() -> None:
    with pytest.raises(InputError, match="max_steps must be at least 1"):
        Experiment(bowl(), GD(0.1), 0)
    with pytest.raises(InputError, match="share a name"):
        Experiment(bowl(), GD(0.1), 1, [Train(), Train()])
