"""The optimizers of training against PyTorch's, step for step in float64; thresholds; what goes around them."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import nn

from limen import Quadratic, Supervised, dynamics
from limen.dynamics._around import EMA, SAM, SWA
from limen.dynamics._scheduled import Scheduled
from limen.dynamics.adam import Adam
from limen.dynamics.decoupled_sgdw import DecoupledSGDW
from limen.dynamics.schedules import LinearDecay, MultiStepWithWarmup
from limen.dynamics.sgd import SGD
from limen.errors import InputError
from limen.objectives.training import Training
from limen.types import AVERAGE, Batch, Dynamics, Need, Objective, State

SCHEDULE = MultiStepWithWarmup(5, (12, 18))


def problem() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    x, y = (torch.randn(20, k, generator=draw, dtype=torch.float64) for k in (3, 2))
    return net, x, y


def advance(rule: Dynamics, objective: Objective, state: State, steps: int) -> State:
    for _ in range(steps):
        state, _ = rule.step(objective.at(state, need=rule.need), state)
    return state


def gap(
    rule: Scheduled, optimiser: type[torch.optim.Optimizer], settings: dict[str, Any], clip: float | None
) -> float:
    """The largest difference of weights after 25 steps, the rate set by hand at each."""
    net, x, y = problem()
    objective = Supervised(net, x, y, "mse")
    state = advance(rule, objective, rule.init(objective, objective.start()), 25)
    theirs = optimiser(net.parameters(), lr=rule.lr, **settings)
    for k in range(25):
        theirs.param_groups[0]["lr"] = rule.lr_at(k)
        theirs.zero_grad()
        (0.5 * (net(x) - y).square().sum() / 20).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        theirs.step()
    moved = torch.cat([p.detach().flatten() for p in net.parameters()])
    assert (moved - objective.start()).norm() > 0.05
    return float((state.w - moved).abs().max())


@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weight_decay": 0.01},
        {"momentum": 0.9, "weight_decay": 5e-4},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        {"momentum": 0.8, "dampening": 0.3},
    ],
)
def test_sgd_is_torch_sgd(settings, clip):
    rule = SGD(0.05, SCHEDULE, clip, **settings)
    assert gap(rule, torch.optim.SGD, settings, clip) < 1e-14


@pytest.mark.parametrize(
    "settings", [{}, {"betas": (0.8, 0.95), "eps": 1e-3}, {"weight_decay": 0.1}, {"amsgrad": True}]
)
def test_adam_is_torch_adam(settings):
    assert gap(Adam(0.02, SCHEDULE, **settings), torch.optim.Adam, settings, None) < 1e-13


def test_decoupled_decay_follows_the_schedule_and_not_the_rate():
    """Where the loss is flat, a step multiplies w by 1 − α(s)λ, whatever lr."""
    flat = Quadratic(torch.zeros(2, 2, dtype=torch.float64), torch.tensor([1.0, -2.0], dtype=torch.float64))
    schedule = LinearDecay(10)
    for lr in (0.1, 3.0):
        rule = DecoupledSGDW(lr, schedule, momentum=0.9, weight_decay=0.02)
        state = advance(rule, flat, rule.init(flat, flat.start()), 6)
        factor = math.prod(1 - schedule(k) * 0.02 for k in range(6))
        torch.testing.assert_close(state.w, factor * flat.start(), rtol=1e-14, atol=0)


def test_without_decay_the_two_are_one():
    net, x, y = problem()
    objective = Supervised(net, x, y, "mse")
    ends = [
        advance(rule, objective, rule.init(objective, objective.start()), 10).w
        for rule in (SGD(0.1, momentum=0.9, nesterov=True), DecoupledSGDW(0.1, momentum=0.9, nesterov=True))
    ]
    assert torch.equal(*ends)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("kind", [SGD, DecoupledSGDW])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_thresholds_are_where_the_companion_matrix_leaves_the_unit_disc(kind, nesterov, decay):
    rule = kind(0.3, momentum=0.6, weight_decay=decay, nesterov=nesterov)

    def radius(sharpness):
        one = torch.ones(1, dtype=torch.float64)
        objective = Quadratic(sharpness * one[:, None], one)
        columns = []
        for w, v in ((1.0, 0.0), (0.0, 1.0)):
            state = State(w * one, torch.zeros(()), rule.init(objective, one).hyper, {"velocity": v * one})
            after, _ = rule.step(objective.at(state), state)
            columns.append([after.w.item(), after.slots["velocity"].item()])
        return float(torch.linalg.eigvals(torch.tensor(columns)).abs().max())

    assert radius(rule.threshold() * (1 - 1e-5)) < 1 < radius(rule.threshold() * (1 + 1e-5))


def test_dampening_raises_the_threshold():
    rule = SGD(0.3, momentum=0.6, dampening=0.5)
    assert rule.threshold() == pytest.approx(2 * SGD(0.3, momentum=0.6).threshold(), rel=1e-15)


def test_the_clock_is_the_sum_of_the_rates():
    bowl = Quadratic(torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    rule = SGD(0.1, SCHEDULE, momentum=0.5)
    state = advance(rule, bowl, rule.init(bowl, bowl.start()), 15)
    assert float(state.t) == pytest.approx(sum(rule.lr_at(k) for k in range(15)), rel=1e-14)
    assert state.history["step"] == 15


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SGD(0.0), "lr must be"),
        (lambda: SGD(0.1, momentum=1.0), r"momentum must lie in \[0, 1\), got 1.0"),
        (lambda: SGD(0.1, momentum=0.5, dampening=-1), "dampening"),
        (lambda: SGD(0.1, nesterov=True), "nesterov needs a momentum"),
        (lambda: SGD(0.1, weight_decay=-1), "weight_decay"),
        (lambda: SGD(0.1, grad_clip_norm=0.0), "grad_clip_norm"),
        (lambda: DecoupledSGDW(0.1, weight_decay=1.0), "below 1"),
        (lambda: Adam(0.1, betas=(0.9, 1.0)), "betas"),
        (lambda: Adam(0.1, eps=-1.0), "eps"),
        (lambda: SAM(SGD(0.1), 0.0), "rho"),
        (lambda: EMA(SGD(0.1), 0.0), "half_life"),
        (lambda: SWA(SGD(0.1), 0, 0), "interval"),
    ],
)
def test_settings_out_of_range_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_settings_come_by_name_too():
    made = dynamics.make("adam", {"lr": "0.1", "betas": [0.5, 0.6]})
    assert isinstance(made, Adam)
    assert made.betas == (0.5, 0.6)
    described = SGD(0.1, SCHEDULE).describe()
    assert described["schedule"] == {
        "name": "multistep_with_warmup", "t_warmup": 5, "milestones": (12, 18), "gamma": 0.1
    }  # fmt: skip
    assert SAM(SGD(0.1), 0.2).describe()["sam"] == {"rho": 0.2}


def test_sam_is_its_two_gradients():
    net, x, y = problem()
    objective = Supervised(net, x, y, "mse")
    rule, w = SAM(SGD(0.05, momentum=0.9), rho=0.3), objective.start()
    state, v = rule.init(objective, w), torch.zeros_like(w)
    for _ in range(5):
        g = objective.point(w).grad
        v = 0.9 * v + objective.point(w + 0.3 * g / g.norm()).grad
        w = w - 0.05 * v
        state, _ = rule.step(objective.at(state, need=rule.need), state)
    torch.testing.assert_close(state.w, w, rtol=1e-13, atol=1e-15)


def test_sam_looks_at_the_same_examples_and_keeps_the_first_pass_buffers():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).double()
    objective = Training(net, "mse")
    _, x, y = problem()
    rule = SAM(SGD(0.05), rho=0.3)
    state, batch = rule.init(objective, objective.start()), Batch(x[:7], y[:7], seed=5)
    point = objective.at(state, batch, Need.GRAD)
    after, _ = rule.step(point, state)
    above = state.replace(w=state.w + 0.3 * point.grad / point.grad.norm())
    expected = state.w - 0.05 * objective.at(above, batch, Need.GRAD).grad
    torch.testing.assert_close(after.w, expected, rtol=1e-14, atol=0)
    assert all(torch.equal(x, point.buffers[name]) for name, x in after.buffers.items())


def trail(rule, steps):
    """All states of a run on a bowl, the first one left out."""
    bowl = Quadratic(
        torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64)), torch.ones(2, dtype=torch.float64)
    )
    state, seen = rule.init(bowl, bowl.start()), []
    for _ in range(steps):
        state, _ = rule.step(bowl.at(state, need=rule.need), state)
        seen.append(state)
    return seen


def test_ema_is_its_sum():
    seen = trail(EMA(SGD(0.1, momentum=0.9), half_life=3), 12)
    s = 2 ** (-1 / 3)
    expected = s**11 * seen[0].w + (1 - s) * sum(s ** (11 - k) * seen[k].w for k in range(1, 12))
    torch.testing.assert_close(seen[-1].branches[AVERAGE].w, expected, rtol=1e-14, atol=0)
    plain = trail(SGD(0.1, momentum=0.9), 12)
    assert torch.equal(plain[-1].w, seen[-1].w), "averaging does not change the run"


def test_swa_is_the_mean_of_every_third():
    seen = trail(SWA(SGD(0.1), start=4, every=3), 12)
    assert AVERAGE not in seen[2].branches
    expected = torch.stack([seen[k - 1].w for k in (4, 7, 10)]).mean(0)
    torch.testing.assert_close(seen[-1].branches[AVERAGE].w, expected, rtol=1e-14, atol=0)


def test_an_average_is_what_is_evaluated_buffers_and_all():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    _, x, y = problem()
    objective = Training(net, "mse", evaluation=(x, y))
    rule = SWA(SGD(0.1), start=1, every=1)
    state, seen = rule.init(objective, objective.start()), []
    for k in range(4):
        state, _ = rule.step(objective.at(state, Batch(x[5 * k : 5 * k + 5], y[5 * k : 5 * k + 5])), state)
        seen.append(state)
    mean = {key: torch.stack([s.buffers[key].double() for s in seen]).mean(0) for key in seen[0].buffers}
    w = torch.stack([s.w for s in seen]).mean(0)
    mean["1.num_batches_tracked"] = torch.tensor(4)
    net.load_state_dict(objective.state_dict(State(w, state.t, buffers=mean)))
    expected = 0.5 * (net.eval()(x) - y).square().sum() / 20
    assert objective.test is not None
    assert objective.test.at(state).loss.item() == pytest.approx(expected.item(), rel=1e-13)
    assert objective.test.at(state.replace(branches={})).loss.item() != pytest.approx(
        expected.item(), rel=1e-3
    )


@pytest.mark.parametrize(
    "rule",
    [
        SGD(0.1, SCHEDULE, momentum=0.9, dampening=0.2),
        Adam(0.1, SCHEDULE, amsgrad=True),
        EMA(SAM(SGD(0.1, SCHEDULE, momentum=0.9)), 5),
        SWA(SGD(0.1, SCHEDULE), 3, 2),
    ],
    ids=["sgd", "adam", "ema-sam", "swa"],
)
def test_a_saved_and_loaded_state_goes_on_bit_for_bit(rule):
    net, x, y = problem()
    objective = Supervised(net, x, y, "mse")
    half = advance(rule, objective, rule.init(objective, objective.start()), 7)
    file = io.BytesIO()
    torch.save(half.to_dict(), file)
    file.seek(0)
    again = State.from_dict(torch.load(file, weights_only=True))
    one, other = (advance(rule, objective, state, 8) for state in (half, again))
    assert torch.equal(one.w, other.w)
    assert all(torch.equal(one.branches[key].w, other.branches[key].w) for key in one.branches)
