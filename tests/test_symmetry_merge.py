"""The smaller network is the same function, and has the units that were planted."""

from __future__ import annotations

import copy

import pytest
import torch
from symmetry_nets import build
from torch import nn

from limen.errors import InputError
from limen.symmetry import duplicate, merge, neuron_groups, silence


def collapse(net, inputs, *, silent=(4,), pairs=((0, 1), (0, 2))):
    """Plant collapsed units in each group; return the names of the groups."""
    state = dict(net.state_dict())
    planted = []
    for group in neuron_groups(net, inputs):
        if group.kind == "units" and group.size >= 6:
            state = duplicate(state, group, pairs) if group.exchange else state
            state = silence(state, group, silent) if group.sign else state
            planted.append(group)
    net.load_state_dict(state)
    return planted


@pytest.mark.parametrize(
    "name", ["vgg16", "vgg16-bn", "vgg16-bn-gelu", "resnet18", "unet", "dense", "mobile"]
)
def test_every_planted_unit_goes_and_the_function_stays(name):
    net, inputs = build(name)
    planted = collapse(net, inputs)
    before = copy.deepcopy(net.state_dict())
    found = merge(net, inputs)
    assert found.refused == {}
    assert found.gap < 1e-11
    assert found.before == {group.name: group.size for group in planted}
    assert found.after == {group.name: group.size - 3 for group in planted}
    assert (found.vanished, found.identical) == (len(planted), 2 * len(planted))
    with torch.no_grad():
        torch.testing.assert_close(found.module(inputs), net(inputs), rtol=1e-10, atol=1e-11)
    assert all(torch.equal(before[key], x) for key, x in net.state_dict().items())
    left = {group.name: group.size for group in neuron_groups(found.module, inputs)}
    assert all(left[group.name] == group.size - 3 for group in planted if group.size > 4)
    # fewer units to train: the layers say their new sizes, and gradients flow
    found.module.train()(inputs).square().sum().backward()


def test_training_goes_on_in_the_smaller_network_as_in_the_larger():
    """Its gradient in outgoing weights is the one that each of the equal units had."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    inputs = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (group,) = neuron_groups(net, inputs)
    net.load_state_dict(duplicate(net.state_dict(), group, [(0, 1)]))
    small = merge(net, inputs).module
    assert (small[0].out_features, small[2].in_features) == (3, 3)
    torch.testing.assert_close(small[2].weight[:, 0], 2 * net[2].weight[:, 0])
    net(inputs).square().sum().backward()
    small(inputs).square().sum().backward()
    torch.testing.assert_close(small[2].weight.grad[:, 0], net[2].weight.grad[:, 0])


@pytest.mark.parametrize(
    ("name", "group", "word"),
    [
        ("words", "embedding", "runs over its units"),
        ("lstm", "cells", "recurrent"),
        ("group-norm", "3", "runs over its units"),
        ("tied", "embedding", "outputs would change"),
    ],
)
def test_what_cannot_be_merged_is_said(name, group, word):
    net, inputs = build(name)
    collapse(net, inputs)
    found = merge(net, inputs)
    assert word in found.refused[group]
    assert found.gap < 1e-11


def test_equal_units_of_sigmoid_are_merged_and_silent_ones_are_not():
    """σ(0) = ½: a unit without incoming weights is a constant, not zero; one that nobody reads goes."""
    net, inputs = build("sigmoid")
    (group,) = neuron_groups(net, inputs)
    state = duplicate(net.state_dict(), group, [(0, 1)])
    state["0.weight"][3] = state["0.bias"][3] = 0
    state["2.weight"][:, 5] = 0
    net.load_state_dict(state)
    found = merge(net, inputs)
    assert (found.vanished, found.identical, found.after) == (1, 1, {"0": 4})
    assert found.gap < 1e-14


def test_a_shift_is_no_silence():
    """With batch normalisation a unit without incoming weights still says its shift."""
    net, inputs = build("vgg16-bn")
    net[0].weight.data[2] = 0
    net[0].bias.data[2] = 0
    assert merge(net, inputs).after == {}
    net[1].weight.data[2] = net[1].bias.data[2] = 0
    assert merge(net, inputs).after == {"0": 5}


class TwoWriters(nn.Module):
    """relu(norm(a x) + b x)."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, 3)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x):
        return self.out(torch.relu(self.norm(self.a(x)) + self.b(x)))


def test_a_unit_is_silent_if_each_of_its_writers_is():
    torch.manual_seed(0)
    net, inputs = TwoWriters().double().eval(), torch.randn(20, 5).double()
    (group,) = neuron_groups(net, inputs)
    assert {slot.parameter for slot in group.speaking} == {"norm.weight", "norm.bias", "b.weight", "b.bias"}
    state = silence(duplicate(net.state_dict(), group, [(0, 1)]), group, [4])
    state["norm.weight"][[2, 3]] = state["norm.bias"][[2, 3]] = 0  # b still writes unit 2, and not unit 3
    state["b.weight"][3] = state["b.bias"][3] = 0
    net.load_state_dict(state)
    found = merge(net, inputs)
    assert (found.vanished, found.identical, found.after) == (2, 1, {"a": 5})
    assert found.refused == {}
    assert found.gap < 1e-12


def test_a_depthwise_filter_of_a_silent_channel_may_be_anything():
    net = nn.Sequential(
        *(nn.Conv2d(2, 6, 1), nn.Tanh(), nn.Conv2d(6, 6, 3, groups=6), nn.Tanh()),
        *(nn.Flatten(), nn.Linear(6, 2)),
    ).double()
    inputs = torch.randn(4, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for parameter in (net[0].weight, net[0].bias, net[2].bias):
        parameter.data[2] = 0
    net[0].weight.data[4] = net[0].bias.data[4] = 0  # the filter's bias still speaks
    found = merge(net, inputs)
    assert (found.vanished, found.after) == (1, {"0": 5})
    assert found.gap < 1e-14


def test_a_layer_that_is_silent_throughout_keeps_one_unit():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    inputs = torch.randn(5, 3, dtype=torch.float64)
    (group,) = neuron_groups(net, inputs)
    net.load_state_dict(silence(net.state_dict(), group, range(4)))
    found = merge(net, inputs)
    assert (found.after, found.vanished) == ({"0": 1}, 3)
    assert found.gap == 0


def test_units_that_are_nearly_equal_are_merged_up_to_the_tolerance():
    net, inputs = build("vgg16")
    group = neuron_groups(net, inputs)[3]
    state = duplicate(net.state_dict(), group, [(0, 1)])
    state["7.weight"] = state["7.weight"].clone()
    state["7.weight"][1] *= 1 + 1e-5
    net.load_state_dict(state)
    assert merge(net, inputs, tolerance=1e-6).after == {}
    found = merge(net, inputs, tolerance=1e-4)
    assert found.after == {group.name: group.size - 1}
    assert 0 < found.gap < 1e-4


def test_a_merge_that_changes_outputs_more_than_allowed_is_undone():
    net, inputs = build("vgg16")
    found = merge(net, inputs, tolerance=1.9, allowed=1e-6)
    assert found.refused
    assert found.gap <= 1e-6


def test_a_negative_tolerance_is_refused():
    net, inputs = build("sigmoid")
    with pytest.raises(InputError, match="must not be negative, got -1"):
        merge(net, inputs, tolerance=-1)
