"""Two dynamics on one clock, and the distance between them, against closed forms on a quadratic."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from limen import GD, Experiment, Quadratic, Schedule, Train
from limen.dynamics import Together
from limen.errors import InputError
from limen.probes import Distance
from limen.types import Dynamics, Info, Objective, Point, Record, State

LAMBDA = torch.tensor([2.0, 0.5], dtype=torch.float64)
START = torch.tensor([1.0, -2.0], dtype=torch.float64)
LR = 0.1


def bowl() -> Quadratic:
    return Quadratic(torch.diag(LAMBDA), START)


@dataclass(frozen=True)
class ExactFlow(Dynamics):
    """w(t) = exp(-λt) w₀, a tick at a time."""

    tick: float
    name = "exact"

    def init(self, objective: Objective, w: Tensor) -> State:
        return State(w, torch.zeros((), dtype=torch.float64))

    def step(self, point: Point, state: State) -> tuple[State, Info]:
        return State(state.w * torch.exp(-LAMBDA * self.tick), state.t + self.tick), {"calls": 1.0}


def records(every: int, steps: int = 12) -> list[Record]:
    rule = Together(GD(LR), {"flow": ExactFlow(LR * every)})
    probes = [Train(), Distance("flow", Schedule(every))]
    return [event for event in Experiment(bowl(), rule, steps, probes).run() if isinstance(event, Record)]


@pytest.mark.parametrize("every", [1, 3, 4])
def test_descent_and_flow_come_apart_as_on_paper(every: int) -> None:
    found = [record for record in records(every) if record.branch == "flow"]
    assert [record.step for record in found] == list(range(0, 12, every))
    for record in found:
        k, t = record.step, LR * record.step
        descent, flow = (1 - LR * LAMBDA) ** k * START, torch.exp(-LAMBDA * t) * START
        apart = (descent - flow).norm().item()
        moved = (flow - START).norm().item()
        path = sum(
            ((1 - LR * LAMBDA) ** (j + 1) * START - (1 - LR * LAMBDA) ** j * START).norm().item()
            for j in range(k)
        )
        values = record.values
        assert values["distance"] == pytest.approx(apart, abs=1e-12)
        assert values["relative"] == pytest.approx(apart / moved if k else 0.0, abs=1e-12)
        assert values["outputs_distance"] == pytest.approx(apart, abs=1e-12)  # the network is the identity
        loss, theirs = (0.5 * (LAMBDA * w**2).sum().item() for w in (descent, flow))
        assert values["loss_gap"] == pytest.approx(loss - theirs, abs=1e-12)
        assert values["train_loss"] == pytest.approx(theirs)
        assert values["path"] == pytest.approx(path)


def test_a_branch_does_not_move_the_main_trajectory() -> None:
    alone = Experiment(bowl(), GD(LR), 12, [Train()]).run()
    expected = [event.values for event in alone if isinstance(event, Record)]
    assert [record.values for record in records(3) if record.probe == "train"] == expected


def test_what_a_branch_tells_is_recorded_where_it_stepped() -> None:
    told = [record for record in records(4) if record.probe == "gd"]
    assert [(record.step, dict(record.values)) for record in told] == [
        (step, {"flow_calls": 1.0}) for step in (0, 4, 8)
    ]


def test_both_trajectories_survive_a_checkpoint() -> None:
    rule, objective = Together(GD(LR), {"flow": ExactFlow(3 * LR)}), bowl()
    state = rule.init(objective, objective.start())
    for _ in range(5):
        state, _ = rule.step(objective.at(state), state)
    file = io.BytesIO()
    torch.save(state.to_dict(), file)
    file.seek(0)
    again = State.from_dict(torch.load(file, weights_only=True))
    for _ in range(5):
        state, _ = rule.step(objective.at(state), state)
        again, _ = rule.step(objective.at(again), again)
    assert torch.equal(state.w, again.w)
    assert torch.equal(state.branches["flow"].w, again.branches["flow"].w)
    assert torch.equal(state.slots["path"], again.slots["path"])


def test_the_composite_is_named_and_bounded_as_its_main_dynamics() -> None:
    rule = Together(GD(LR), {"flow": ExactFlow(LR)})
    assert (rule.name, rule.threshold(), rule.need) == ("gd", 2 / LR, GD.need)
    assert rule.describe() == {
        "name": "gd",
        "lr": LR,
        "together_with": {"flow": {"name": "exact", "tick": LR}},
    }


def test_a_distance_at_two_times_or_to_nobody_is_refused() -> None:
    rule = Together(GD(LR), {"flow": ExactFlow(2 * LR)})
    with pytest.raises(InputError, match="expected one time"):
        list(Experiment(bowl(), rule, 4, [Distance("flow", Schedule(1))]).run())
    with pytest.raises(InputError, match="there are: flow"):
        list(Experiment(bowl(), rule, 4, [Distance("stream", Schedule(1))]).run())


def test_rounding_of_the_clock_never_costs_or_adds_a_step() -> None:
    # 0.1 added a thousand times is not 100
    rule, objective = Together(GD(LR), {"flow": ExactFlow(LR * 7)}), bowl()
    state = rule.init(objective, objective.start())
    for step in range(1, 1001):
        state, _ = rule.step(objective.at(state), state)
        assert math.isclose(state.branches["flow"].t.item(), 7 * LR * -(-step // 7), rel_tol=1e-9)
