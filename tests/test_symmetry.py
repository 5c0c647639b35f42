"""The groups that the tracer finds are symmetries of the function, and their sign sets have no gradient across them."""

from __future__ import annotations

import copy

import pytest
import symmetry_nets
import torch
from symmetry_nets import NETS, build, unsettled
from torch import nn

from limen import models
from limen.errors import InputError
from limen.symmetry import duplicate, exchange_gap, neuron_groups, permute, rescale, silence
from limen.symmetry.check import outputs
from limen.symmetry.trace import call_with, trace
from limen.symmetry.vanishing import NEVER, Vanishing, kinked, order

EXACT = 1e-11

OURS = {
    "fc-tanh": ((3, 4, 4), {"width": 7}),
    "cnn-relu": ((3, 8, 8), {"width": 6}),
    "cnn-bn-relu": ((3, 8, 8), {"width": 6}),
    "vgg11": ((3, 32, 32), {}),
    "vgg11-bn": ((3, 32, 32), {}),
    "vgg16": ((3, 32, 32), {}),
    "vgg16bngelu": ((3, 32, 32), {}),
    "resnetlowres": ((3, 32, 32), {}),
    "resnet32": ((3, 32, 32), {}),
    "transformer": ((5,), {"width": 12, "feedforward": 10}),
    "regression": ((1,), {}),
    "deeplinear": ((50,), {}),
}
LARGE = {"vgg16", "vgg16bngelu", "resnetlowres", "vgg11", "vgg11-bn", "resnet32"}


def ours(name):
    shape, arguments = OURS[name]
    outs = {"transformer": 7, "regression": 1, "deeplinear": 50}.get(name, 5)
    net = models.build(name, input_shape=shape, outputs=outs, arguments=arguments).double().eval()
    draw = torch.Generator().manual_seed(3)
    words = torch.randint(0, 7, (2, 5), generator=draw)
    inputs = words if name == "transformer" else torch.randn(2, *shape, generator=draw, dtype=torch.float64)
    net.load_state_dict(unsettled(net, inputs))
    return net, inputs


def crossing(net, inputs, group, state):
    """Gradient of a generic loss in what belongs to unit 1, at a point where all of it is zero, relative."""
    zero = silence(state, group, [1])
    names = [name for name, _ in net.named_parameters()]
    leaves = {name: zero[name].clone().requires_grad_() for name in names}
    out = call_with(net, {**zero, **leaves}, (inputs,))
    target = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    grads = torch.autograd.grad((out - target).square().sum(), list(leaves.values()), allow_unused=True)
    parts = {n: torch.zeros_like(leaves[n]) if g is None else g for n, g in zip(names, grads, strict=True)}
    whole = torch.cat([g.reshape(-1) for g in parts.values()]).norm()
    return (group.vectors(parts)[1].norm() / whole).item()


def agree(net, inputs):
    """The verdicts of every group, against the function itself."""
    state = dict(net.state_dict())
    groups = neuron_groups(net, inputs)
    assert groups
    assert len({group.name for group in groups}) == len(groups)
    for group in groups:
        exchanged = exchange_gap(net, inputs, group)
        assert (exchanged < EXACT) == group.exchange.holds, (group.name, exchanged, group.exchange.why)
        if group.sign:
            assert crossing(net, inputs, group, state) < 1e-13, group.name
    return {group.name: group for group in groups}


@pytest.mark.parametrize("name", [*NETS])
def test_groups_agree_with_the_function(name):
    agree(*build(name))


@pytest.mark.parametrize("name", [name for name in OURS if name not in LARGE])
def test_groups_of_our_models_agree_with_the_function(name):
    agree(*ours(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LARGE))
def test_groups_of_our_large_models_agree_with_the_function(name):
    agree(*ours(name))


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "words", "mobile"])
def test_a_part_of_a_unit_alone_is_no_symmetry(name):
    """Each slot counts: exchanging all of a unit but one changes the function."""
    net, inputs = build(name)
    state = dict(net.state_dict())
    reference = outputs(net, inputs, state)
    for group in neuron_groups(net, inputs):
        order = [*range(1, group.size), 0]
        whole = permute(state, group, order)
        for slot in group.slots:
            if slot.role == "bias" and group.name.endswith("]"):
                continue  # softmax does not see a bias of the keys
            partly = {**whole, slot.parameter: state[slot.parameter]}
            gap = (outputs(net, inputs, partly) - reference).abs().max() / reference.abs().max()
            assert gap > 1e-9, (group.name, slot.parameter)


@pytest.mark.parametrize(
    ("name", "group", "word"),
    [
        ("sigmoid", "0", "sigmoid in 1 does not map 0 to 0"),
        ("mixer", "patches", "layer norm in norm1"),
        ("group-norm", "0[0]", "group norm in 1"),
        ("words", "embedding", "layer norm in encoder.layers.0.norm1"),
        ("weight-norm", "2.parametrizations.weight", "divides"),
        ("cumulative", "first", "cumsum"),
    ],
)
def test_a_sign_set_that_can_be_left_is_said_to_be(name, group, word):
    net, inputs = build(name)
    found = {g.name: g for g in neuron_groups(net, inputs)}[group]
    assert not found.sign.holds
    assert word in found.sign.why
    if name != "weight-norm":  # its gradient does not exist there
        assert crossing(net, inputs, found, dict(net.state_dict())) > 1e-6


@pytest.mark.parametrize(
    ("name", "group", "word"),
    [
        ("words-fixed", "embedding", "fixed numbers that differ"),
        ("rotary", "q[0]", "fixed numbers that differ"),
        ("cumulative", "first", "cumsum"),
        ("vgg16", "36", "dropout in 38 draws another mask for each unit"),
        ("vision", "patches", "dropout in layer.dropout1"),
    ],
)
def test_units_that_cannot_be_exchanged_are_said_to_be(name, group, word):
    net, inputs = build(name)
    found = {g.name: g for g in neuron_groups(net, inputs)}[group]
    assert not found.permutation.holds
    assert word in found.permutation.why
    assert found.exchange.holds == ("dropout" in word)


def sizes(name):
    net, inputs = build(name)
    return {group.name: group.size for group in neuron_groups(net, inputs)}


def test_residual_networks_have_one_group_a_stream():
    net, inputs = build("resnet18")
    groups = {group.name: group for group in neuron_groups(net, inputs)}
    assert {name: group.size for name, group in groups.items()} == {
        "conv1": 6,
        "layer1.0.conv1": 6,
        "layer1.1.conv1": 6,
        "layer2.0.conv1": 8,
        "layer2.0.conv2": 8,
        "layer2.1.conv1": 8,
        "layer3.0.conv1": 10,
        "layer3.0.conv2": 10,
        "layer3.1.conv1": 10,
        "layer4.0.conv1": 12,
        "layer4.0.conv2": 12,
        "layer4.1.conv1": 12,
    }
    stream = groups["layer2.0.conv2"]
    assert stream.writers == ("layer2.0.conv2", "layer2.0.downsample.0", "layer2.1.conv2")
    read = {slot.parameter for slot in stream.slots if slot.role == "out"}
    assert read == {"layer2.1.conv1.weight", "layer3.0.conv1.weight", "layer3.0.downsample.0.weight"}
    scaled = {slot.parameter for slot in stream.slots if slot.role in ("scale", "shift")}
    norms = ("layer2.0.bn2", "layer2.0.downsample.1", "layer2.1.bn2")
    assert scaled == {f"{norm}.{leaf}" for norm in norms for leaf in ("weight", "bias")}
    assert {s.parameter for s in stream.statistics} == {
        f"{norm}.{leaf}" for norm in norms for leaf in ("running_mean", "running_var")
    }


def test_a_padded_shortcut_ties_only_the_channels_it_carries():
    """Channels 2 … 5 of the second stage carry the four of the first; the others are a group of their own."""
    net, inputs = build("padded")
    first, second = neuron_groups(net, inputs)
    rows = {slot.parameter: slot.index.flatten().tolist() for slot in first.slots if slot.role == "in"}
    assert rows == {"conv1.weight": [0, 1, 2, 3], "conv2.weight": [2, 3, 4, 5]}
    rows = {slot.parameter: slot.index.flatten().tolist() for slot in second.slots if slot.role == "in"}
    assert rows == {"conv2.weight": [0, 1, 6, 7]}


def test_heads_are_blocks_of_queries_keys_values_and_outputs():
    net, inputs = ours("transformer")
    groups = {group.name: group for group in neuron_groups(net, inputs)}
    heads = groups["layers.0.self_attn.heads"]
    assert (heads.kind, heads.size) == ("heads", 2)
    rows = {slot.parameter: slot.index for slot in heads.slots}
    expected = torch.arange(36).reshape(3, 2, 6).transpose(0, 1).reshape(2, 18)
    assert torch.equal(rows["layers.0.self_attn.in_proj_weight"], expected)
    assert torch.equal(rows["layers.0.self_attn.out_proj.weight"], torch.arange(12).reshape(2, 6))
    # queries and keys of one position within a head are one unit, values another
    assert groups["layers.0.self_attn[1]"].slots[0].index.tolist() == [[k, k + 12] for k in range(6, 12)]
    assert groups["layers.0.self_attn[1]#2"].slots[0].index.tolist() == [[k] for k in range(30, 36)]


def test_sizes_where_groups_of_channels_must_stay_together():
    assert sizes("grouped") == {"0[0]": 4, "0[1]": 4, "2[0]": 6, "2[1]": 6, "4": 6, "blocks": 2}
    assert sizes("group-norm") == {"0[0]": 4, "0[1]": 4, "3": 6, "0.blocks": 2}
    assert sizes("mobile") == {"0": 8, "6": 6}
    assert sizes("tied") == {"embedding": 8, "up": 6}
    assert sizes("mixer") == {"patches": 8, "tokens1": 6, "channels1": 10}


def test_the_flattened_positions_of_a_channel_are_one_unit():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 5, 3))
    (group,) = neuron_groups(net, torch.zeros(1, 1, 8, 7))
    index = {slot.parameter: slot.index for slot in group.slots}["3.weight"]
    assert torch.equal(index, torch.arange(120).reshape(4, 30))
    vectors = group.vectors(net.state_dict())
    assert vectors.shape == (4, 9 + 1 + 30 * 3)
    by_hand = [net[0].weight[2].flatten(), net[0].bias[2:3], net[3].weight[:, 60:90].T.flatten()]
    assert torch.equal(vectors[2], torch.cat(by_hand))


@pytest.mark.parametrize(
    "name", ["vgg16", "vgg16-bn", "resnet18", "words", "dense", "unet", "mobile", "rotary"]
)
def test_planted_units_are_seen_exactly(name):
    """Duplicates, silent units and an exchange are planted in every group at once; each group sees its own."""
    net, inputs = build(name)
    state = dict(net.state_dict())
    groups = [group for group in neuron_groups(net, inputs) if group.size >= 6 and group.kind == "units"]
    groups = [group for group in groups if group.exchange and group.sign]
    assert groups
    for group in groups:
        state = permute(duplicate(state, group, [(0, 3), (0, 4)]), group, [2, 1, 0, *range(3, group.size)])
        state = silence(state, group, [5])
    for group in groups:
        vectors = group.vectors(state)
        assert (vectors.norm(dim=1) == 0).nonzero().flatten().tolist() == [5]
        equal = [(i, j) for j in range(group.size) for i in range(j) if torch.equal(vectors[i], vectors[j])]
        assert equal == [(2, 3), (2, 4), (3, 4)]


@pytest.mark.parametrize("name", ["vgg16", "vgg16-bn"])
def test_positive_factors_leave_relu_networks_as_they_are(name):
    net, inputs = build(name)
    state = dict(net.state_dict())
    reference = outputs(net, inputs, state)
    for group in neuron_groups(net, inputs):
        factors = torch.linspace(0.5, 2, group.size, dtype=torch.float64)
        state = rescale(state, group, factors)
    assert not torch.equal(state["0.weight"], net.state_dict()["0.weight"]) or name == "vgg16-bn"
    torch.testing.assert_close(outputs(net, inputs, state), reference, rtol=1e-11, atol=1e-11)


def test_tracing_leaves_everything_as_it_was():
    net, inputs = build("vgg16-bn")
    net.train()
    net[3].eval()
    before = copy.deepcopy(net.state_dict())
    modes = [part.training for part in net.modules()]
    stream = torch.get_rng_state()
    neuron_groups(net, inputs)
    assert torch.equal(stream, torch.get_rng_state())
    assert modes == [part.training for part in net.modules()]
    assert all(torch.equal(before[name], x) for name, x in net.state_dict().items())
    copy.deepcopy(net)


def test_a_shared_layer_survives_the_trace():
    net, inputs = build("repeated")
    first = net[1].weight
    neuron_groups(net, inputs)
    assert net[1].weight is first is net[3].weight
    copy.deepcopy(net)


def test_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 5), nn.Linear(2, 5), nn.Linear(5, 1)

        def forward(self, x, y):
            return self.c((self.a(x) + self.b(y)).tanh())

    net = Two().double()
    inputs = (torch.randn(4, 3).double(), torch.randn(4, 2).double())
    (group,) = neuron_groups(net, inputs)
    assert group.writers == ("a", "b")
    assert exchange_gap(net, inputs, group) < EXACT


def test_a_network_that_looks_at_values_is_refused_with_its_part():
    net = nn.Sequential(nn.Linear(3, 3), symmetry_nets.Undecided()).double()
    with pytest.raises(InputError, match=r"'1' \(Undecided\).*reads a number out of a tensor"):
        neuron_groups(net, torch.zeros(2, 3, dtype=torch.float64))


def test_an_example_that_does_not_fit_is_refused_with_the_part_that_failed():
    net, _ = build("vgg16")
    with pytest.raises(InputError, match=r"its part '0' \(Conv2d\) failed"):
        neuron_groups(net, torch.zeros(2, 4, 32, 32, dtype=torch.float64))


def test_errors_of_units_and_orders():
    net, inputs = build("sigmoid")
    (group,) = neuron_groups(net, inputs)
    state = net.state_dict()
    with pytest.raises(InputError, match="units 0 … 5, got 6"):
        silence(state, group, [6])
    with pytest.raises(InputError, match="order of the 6 units"):
        permute(state, group, [0, 0, 1, 2, 3, 4])
    with pytest.raises(InputError, match="expected 6 factors"):
        rescale(state, group, torch.ones(5))
    with pytest.raises(InputError, match=r"needs the parameter '0\.weight'"):
        group.vectors({"weight": torch.zeros(1)})


def test_dead_ends_are_not_followed():
    """What the outputs do not depend on cannot break a symmetry."""

    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 5), nn.Linear(5, 2)

        def forward(self, x):
            x = self.a(x).relu()
            x.cumsum(1)
            return self.b(x)

    (group,) = neuron_groups(Aside(), torch.zeros(1, 3))
    assert group.sign.holds
    assert group.permutation.holds


aten = torch.ops.aten


@pytest.mark.parametrize(
    ("op", "orders", "expected"),
    [
        (aten.relu.default, [1], 1),
        (aten.gelu.default, [1], 1),
        (aten.tanh.default, [2], 2),
        (aten.sigmoid.default, [1], 0),
        (aten.softplus.default, [1], 0),
        (aten.cos.default, [1], 0),
        (aten.sqrt.default, [1], 0),
        (aten.mul.Tensor, [1, 1], 2),
        (aten.mul.Tensor, [1, 0], 1),
        (aten.mul.Tensor, [1, NEVER], NEVER),
        (aten.add.Tensor, [1, 2], 1),
        (aten.add.Tensor, [1, 0], 0),
        (aten.add.Tensor, [1, NEVER], 1),
        (aten.div.Tensor, [2, 1], 1),
        (aten.maximum.default, [1, 2], 1),
    ],
)
def test_orders_of_vanishing(op, orders, expected):
    template = tuple(Vanishing(k, torch.float64) for k in orders)
    assert order(op, template, ()) == expected


@pytest.mark.parametrize(
    ("op", "orders", "expected"),
    [
        (aten.relu.default, [1], True),
        (aten.relu.default, [2], True),
        (aten.relu.default, [0], False),  # where its argument does not vanish, there is no kink in the way
        (aten.abs.default, [1], True),
        (aten.sign.default, [1], True),
        (aten.sqrt.default, [1], True),
        (aten.selu.default, [1], True),
        (aten.elu.default, [1], False),
        (aten.gelu.default, [1], False),
        (aten.gelu.default, [3], False),
        (aten.silu.default, [1], False),
        (aten.sigmoid.default, [1], False),
        (aten.cos.default, [1], False),
        (aten.tanh.default, [2], False),
        (aten.mul.Tensor, [1, 1], False),
        (aten.mul.Tensor, [1, 0], False),
        (aten.maximum.default, [1, 2], True),
        (aten.maximum.default, [1, 0], False),
        (aten.gt.Tensor, [1, NEVER], True),
    ],
)
def test_kinks_at_zero(op, orders, expected):
    template = tuple(Vanishing(k, torch.float64) for k in orders)
    assert kinked(op, template, ()) is expected


class Applied(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("middle", "smooth"),
    [
        (nn.Sequential(nn.Tanh(), nn.AvgPool2d(2)), True),
        (nn.Sequential(nn.Tanh(), nn.MaxPool2d(2)), False),
        (nn.Sequential(nn.Tanh(), Applied(lambda x: x.amax((2, 3), keepdim=True))), False),
        (Applied(lambda x: x * (x > 0)), False),
        (Applied(lambda x: torch.where(x > 0, x, 0 * x)), False),
        (Applied(lambda x: x + x.relu()), False),
        (Applied(lambda x: torch.cat([x.tanh(), x.relu()], dim=2)), False),
        (Applied(lambda x: x.relu() ** 2), True),  # its kink is one of third order in the loss
    ],
)
def test_what_lies_between_a_units_input_and_output_has_a_kink_or_not(middle, smooth):
    net = nn.Sequential(nn.Conv2d(1, 5, 3), middle, nn.Conv2d(5, 4, 1), nn.AdaptiveAvgPool2d(1))
    group = neuron_groups(net, torch.zeros(1, 1, 8, 8))[0]
    assert group.sign.holds
    assert group.smooth.holds is smooth


def test_the_tape_names_the_module_of_each_operation():
    net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
    tape = trace(net, torch.zeros(5, 3))
    assert [call.module for call in tape.calls] == ["0", "0", "1.0", "1.1", "1.1"]
    assert tape.shapes[tape.outputs[0]] == (2, 2)
