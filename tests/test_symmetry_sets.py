"""Training cannot leave the sets: every minibatch gradient is tangent, and a hundred noisy steps stay there."""

from __future__ import annotations

import math

import pytest
import torch
from symmetry_nets import build
from torch import nn

from limen.dynamics.sgd import SGD
from limen.errors import InputError
from limen.objectives import Supervised
from limen.objectives.training import Training
from limen.streams import Minibatches
from limen.symmetry import (
    PermutationSet,
    SignSet,
    check_tangent,
    neuron_groups,
    normal_component,
    put,
    put_on_permutation_set,
    put_on_sign_set,
)
from limen.types import Need, State

ROUNDING = 1e-14


def problem(name, n=24, batch_size=6):
    """A network of the zoo on images or vectors, with label noise drawn at every step."""
    net, inputs = build(name)
    draw = torch.Generator().manual_seed(5)
    outputs = net(inputs).shape[1]
    x = torch.randn(n, *inputs.shape[1:], generator=draw, dtype=torch.float64)
    y = torch.randint(0, outputs, (n,), generator=draw)
    objective = Training(net, "ce", evaluation=(x, y))
    stream = Minibatches(x, y, batch_size, classes=outputs, label_noise=0.4, dtype=torch.float64)
    return neuron_groups(net, inputs), objective, stream


def begin(objective, rule):
    return rule.init(objective, objective.start()).replace(buffers=objective.buffers())


def targets(group):
    if group.sign:
        yield SignSet(group, (0, group.size - 1))
    if group.permutation:
        yield PermutationSet(group, ((0, 1), (1, 3), (2, 4)) if group.size > 4 else ((0, 1),))


RULE = SGD(0.05, momentum=0.9, weight_decay=5e-4)


@pytest.mark.parametrize(
    "name", ["vgg16", "vgg16-bn-gelu", "resnet18", "sigmoid", "repeated", "grouped", "padded", "convnext"]
)
def test_minibatch_gradients_are_tangent_to_every_set(name):
    groups, objective, stream = problem(name)
    start = begin(objective, RULE)
    checked = 0
    for group in groups:
        for target in targets(group):
            state = put(objective, start, target)
            found = check_tangent(objective, state, target, [stream(checked)])
            assert min(found.gradient) > 1e-6
            assert found.ratio < ROUNDING, (group.name, target, found)
            checked += 1
    assert checked >= 1


@pytest.mark.parametrize("name", ["words", "rotary", "vision", "mixer"])
def test_full_gradients_of_transformers_are_tangent(name):
    net, inputs = build(name)
    with torch.no_grad():
        goal = net(inputs).flip(0)
    objective = Supervised(net, inputs, goal, "mse")
    start = RULE.init(objective, objective.start())
    for group in neuron_groups(net, inputs):
        for target in targets(group):
            found = check_tangent(objective, put(objective, start, target), target)
            assert found.ratio < ROUNDING, (group.name, target, found)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("vgg16", "7"),
        ("vgg16-bn-gelu", "10"),
        ("vgg16-bn-gelu", "40"),
        ("resnet18", "layer1.0.conv1"),
        ("resnet18", "layer2.0.conv2"),
        ("repeated", "0"),
    ],
)
@pytest.mark.parametrize("kind", [SignSet, PermutationSet])
def test_a_hundred_noisy_steps_stay_in_the_set(name, group, kind):
    groups, objective, stream = problem(name)
    chosen = {g.name: g for g in groups}[group]
    target = kind(chosen, (1, 4) if kind is SignSet else ((1, 4), (0, 2)))
    state = put(objective, begin(objective, RULE), target)
    first = state.w
    for step in range(100):
        point = objective.at(state, stream(step), Need.GRAD)
        state, _ = RULE.step(point, state)
    assert (state.w - first).norm() > 1e-2
    for vector in (state.w, state.slots["velocity"]):
        assert target.distance(objective.state_dict(state.replace(w=vector))) <= 1e-10


def test_dropout_leaves_the_permutation_set_and_not_the_sign_set():
    """Two equal units with different masks get different gradients; a silent one gets none under any mask."""
    groups, objective, stream = problem("vgg16")
    group = {g.name: g for g in groups}["36"]
    state = begin(objective, RULE)
    with pytest.raises(InputError, match="dropout in 38"):
        put(objective, state, PermutationSet(group, ((0, 1),)))
    on = PermutationSet(group, ((0, 1),)).project(objective.state_dict(state))
    state = state.replace(w=objective.flatten({name: on[name] for name in objective.names}))
    found = check_tangent(objective, state, PermutationSet(group, ((0, 1),)), [stream(k) for k in range(4)])
    assert found.ratio > 1e-3
    target = SignSet(group, (0,))
    assert check_tangent(objective, put(objective, state, target), target, [stream(0)]).ratio < ROUNDING


def test_a_sign_set_that_is_not_invariant_is_left():
    groups, objective, stream = problem("sigmoid")
    (group,) = groups
    target = SignSet(group, (2,))
    state = begin(objective, RULE)
    with pytest.raises(InputError, match="sigmoid in 1 does not map 0 to 0"):
        put(objective, state, target)
    zero = target.project(objective.state_dict(state))
    state = state.replace(w=objective.flatten({name: zero[name] for name in objective.names}))
    found = check_tangent(objective, state, target, [stream(0)])
    assert found.ratio > 1e-3


def test_a_point_outside_the_set_is_refused():
    groups, objective, _ = problem("vgg16")
    state = begin(objective, RULE)
    with pytest.raises(InputError, match="away from the set"):
        check_tangent(objective, state, SignSet(groups[0], (0,)))


def test_the_projection_is_orthogonal_and_known_in_closed_form():
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    (group,) = neuron_groups(net, torch.zeros(1, 2, dtype=torch.float64))
    state = net.state_dict()
    rows = group.vectors(state)

    on = put_on_sign_set(state, group, [1, 2])
    assert group.vectors(on)[1:3].abs().max() == 0
    assert torch.equal(group.vectors(on)[[0, 3]], rows[[0, 3]])
    assert SignSet(group, (1, 2)).distance(state) == pytest.approx(rows[1:3].norm().item(), rel=1e-14)

    on = put_on_permutation_set(state, group, [(0, 2), (2, 3)])
    torch.testing.assert_close(group.vectors(on)[0], rows[[0, 2, 3]].mean(0), rtol=1e-14, atol=1e-15)
    target = PermutationSet(group, ((0, 2), (2, 3)))
    pair = PermutationSet(group, ((0, 2),))
    expected = (rows[0] - rows[2]).norm().item() / math.sqrt(2)
    assert pair.distance(state) == pytest.approx(expected, rel=1e-14)
    normal = normal_component(state, target)
    again = {name: on[name] + normal[name] for name in normal}
    assert all(torch.allclose(again[name], state[name], rtol=1e-14, atol=1e-15) for name in normal)
    inner = sum((normal[name] * on[name]).sum().item() for name in normal)
    assert abs(inner) < 1e-15
    assert torch.equal(on["2.bias"], state["2.bias"])
    # a point of the set stays to the last bit
    assert all(torch.equal(x, on[name]) for name, x in target.project(on).items())


def test_rows_and_columns_of_one_matrix_are_averaged_together():
    """Where a unit owns row i and column i of U, exchanging i and j maps U_ij to U_ji and U_ii to U_jj."""
    net, inputs = build("repeated")
    (group,) = neuron_groups(net, inputs)
    U = net.state_dict()["1.weight"]
    on = put_on_permutation_set(net.state_dict(), group, [(0, 1)])["1.weight"]
    torch.testing.assert_close(on[0, 0], (U[0, 0] + U[1, 1]) / 2)
    torch.testing.assert_close(on[0, 1], (U[0, 1] + U[1, 0]) / 2)
    torch.testing.assert_close(on[0, 3], (U[0, 3] + U[1, 3]) / 2)
    torch.testing.assert_close(on[3, 1], (U[3, 0] + U[3, 1]) / 2)
    assert on[2, 5] == U[2, 5]


def test_statistics_of_paired_units_are_averaged_where_given():
    net, inputs = build("vgg16-bn")
    group = neuron_groups(net, inputs)[0]
    state = net.state_dict()
    on = put_on_permutation_set(state, group, [(0, 1)])
    for slot in group.statistics:
        assert on[slot.parameter][0] == on[slot.parameter][1] != state[slot.parameter][0]


def test_units_that_do_not_exist_are_refused():
    net, inputs = build("sigmoid")
    (group,) = neuron_groups(net, inputs)
    with pytest.raises(InputError, match="units 0 … 5, got 9"):
        put_on_permutation_set(net.state_dict(), group, [(0, 9)])


def test_the_velocity_is_put_on_the_set_too():
    groups, objective, _ = problem("vgg16")
    target = SignSet(groups[0], (0,))
    state = begin(objective, RULE)
    moving = state.replace(slots={"velocity": torch.ones_like(state.w)})
    placed = put(objective, moving, target)
    assert isinstance(placed, State)
    found = objective.state_dict(placed.replace(w=placed.slots["velocity"]))
    assert target.distance(found) == 0
    assert placed.slots["velocity"].sum() == len(state.w) - groups[0].vectors(found).shape[1]
