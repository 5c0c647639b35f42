"""Every rule in `dynamics/` meets one suite; a new file is tested without touching this one."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import pytest
import torch

from limen import Quadratic, Supervised, dynamics
from limen.dynamics.gd import GD
from limen.dynamics.nesterov import Nesterov
from limen.dynamics.polyak import Polyak
from limen.errors import InputError
from limen.registry import families
from limen.types import Dynamics, Objective, State

GIVEN = {"lr": 0.1, "beta": 0.6, "tick": 0.1}
ALL = [family.stem for family in families("dynamics")]
RULES = [family.stem for family in families("dynamics") if "lr" in family.arguments]
"""Descent; the others flow."""


def build(name: str, **changes: float) -> Dynamics:
    takes = next(family.arguments for family in families("dynamics") if family.stem == name)
    return dynamics.make(name, {key: value for key, value in (GIVEN | changes).items() if key in takes})


THRESHOLDS = [name for name in RULES if build(name).threshold() is not None]
"""Those with a sharpness above which they are unstable."""


def bowl(top: float, dtype: torch.dtype = torch.float64) -> Quadratic:
    return Quadratic(
        torch.diag(torch.tensor([top, top / 3, top / 10], dtype=dtype)), torch.ones(3, dtype=dtype)
    )


def advance(rule: Dynamics, objective: Objective, state: State, steps: int) -> State:
    for _ in range(steps):
        state, _ = rule.step(objective.at(state, need=rule.need), state)
    return state


@pytest.mark.parametrize("name", THRESHOLDS)
def test_converges_below_its_threshold_and_diverges_above(name: str) -> None:
    rule = build(name)
    threshold = rule.threshold()
    assert threshold is not None
    below, above = bowl(0.98 * threshold), bowl(1.02 * threshold)
    assert advance(rule, below, rule.init(below, below.start()), 3000).w.norm() < 1e-6
    assert advance(rule, above, rule.init(above, above.start()), 3000).w.norm() > 1e6


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("lr", [0.01, 0.7])
def test_thresholds_are_where_the_companion_matrix_leaves_the_unit_disc(lr: float, beta: float) -> None:
    def radius(rule: Dynamics, sharpness: float) -> float:
        columns = []
        objective = Quadratic(
            torch.tensor([[sharpness]], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        )
        for w, v in ((1.0, 0.0), (0.0, 1.0)):
            state = rule.init(objective, torch.tensor([w], dtype=torch.float64))
            state = state.replace(slots={key: torch.full_like(x, v) for key, x in state.slots.items()})
            after, _ = rule.step(objective.at(state), state)
            columns.append([after.w.item(), *(x.item() for x in after.slots.values())])
        size = len(columns[0])
        return float(torch.linalg.eigvals(torch.tensor(columns)[:size]).abs().max())

    for rule in (GD(lr), Polyak(lr, beta), Nesterov(lr, beta)):
        threshold = rule.threshold()
        assert radius(rule, threshold * (1 - 1e-5)) < 1 < radius(rule, threshold * (1 + 1e-5))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_type_and_does_not_change_its_state(name: str, dtype: torch.dtype) -> None:
    rule, objective = build(name), bowl(1, dtype)
    state = advance(rule, objective, rule.init(objective, objective.start()), 2)
    before = {key: x.clone() for key, x in {"w": state.w, "t": state.t, **state.slots, **state.hyper}.items()}
    after, _ = rule.step(objective.at(state), state)
    assert after.w.dtype == dtype
    assert all(x.dtype == dtype for x in after.slots.values())
    now = {"w": state.w, "t": state.t, **state.slots, **state.hyper}
    assert all(torch.equal(before[key], now[key]) for key in before)
    assert not torch.equal(after.w, state.w)


@pytest.mark.parametrize("name", ALL)
def test_a_saved_and_loaded_state_goes_on_bit_for_bit(name: str) -> None:
    rule, objective = build(name), bowl(1, torch.float32)
    half = advance(rule, objective, rule.init(objective, objective.start()), 7)
    file = io.BytesIO()
    torch.save(half.to_dict(), file)
    file.seek(0)
    again = State.from_dict(torch.load(file, weights_only=True))
    assert torch.equal(advance(rule, objective, again, 7).w, advance(rule, objective, half, 7).w)


@pytest.mark.parametrize("name", RULES)
def test_an_ensemble_steps_as_its_members_do(name: str) -> None:
    rule, objective = build(name), bowl(1)
    starts = torch.randn(4, 3, dtype=torch.float64)
    together = advance(rule, objective, rule.init(objective, starts), 5)
    apart = [advance(rule, objective, rule.init(objective, w), 5).w for w in starts]
    assert torch.allclose(together.w, torch.stack(apart), rtol=1e-14)
    assert together.t.shape == (4,)
    lrs = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    state = rule.init(objective, starts)
    varied = advance(rule, objective, state.replace(hyper={**state.hyper, "lr": lrs}), 5)
    apart = [
        advance(build(name, lr=lr), objective, build(name, lr=lr).init(objective, w), 5).w
        for lr, w in zip(lrs.tolist(), starts, strict=True)
    ]
    assert torch.allclose(varied.w, torch.stack(apart), rtol=1e-13)


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        (GD(0.05), {}),
        (Polyak(0.05, 0.8), {"momentum": 0.8}),
        (Nesterov(0.05, 0.8), {"momentum": 0.8, "nesterov": True}),
    ],
)
def test_agrees_with_torch(rule: Dynamics, settings: dict[str, float]) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    x, y = torch.randn(20, 3).double(), torch.randn(20, 1).double()
    objective = Supervised(net, x, y, "mse")
    state = advance(rule, objective, rule.init(objective, objective.start()), 25)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, **settings)  # type: ignore[arg-type]
    for _ in range(25):
        optimiser.zero_grad()
        (0.5 * (net(x) - y).square().sum() / 20).backward()
        optimiser.step()
    ours = torch.cat([p.detach().flatten() for p in net.parameters()])
    assert torch.allclose(state.w, ours, rtol=1e-11)
    assert math.isclose(float(state.t), 25 * 0.05)


@pytest.mark.parametrize("lr", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", RULES)
def test_refuses_a_learning_rate_that_is_none(name: str, lr: float) -> None:
    with pytest.raises(InputError, match=r"lr.*(positive|finite) number, got"):
        build(name, lr=lr)


@pytest.mark.parametrize("lr", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("rule", [GD, lambda lr: Polyak(lr, 0.5), lambda lr: Nesterov(lr, 0.5)])
def test_a_rule_made_by_hand_refuses_it_too(rule: Callable[[float], Dynamics], lr: float) -> None:
    with pytest.raises(InputError, match="lr must be a positive number"):
        rule(lr)


@pytest.mark.parametrize("beta", [-0.1, 1.0, math.nan])
@pytest.mark.parametrize("name", ["polyak", "nesterov"])
def test_refuses_a_momentum_outside_its_range(name: str, beta: float) -> None:
    with pytest.raises(InputError, match="beta"):
        build(name, beta=beta)
