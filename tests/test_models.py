"""Networks: sizes, order of random draws, refusals, batch normalisation, and what every family owes."""

import importlib
import inspect
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import jvp

from limen import data, models, registry
from limen.errors import InputError
from limen.models._norm import BatchNorm

REFERENCE = json.loads((Path(__file__).parent / "reference" / "first_losses.json").read_text())
# PyTorch scripts its own decompositions when forward mode is first used.
SCRIPTED = "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
CIFAR, DIGITS, SCALAR = ((3, 32, 32), 10), ((1, 8, 8), 10), ((1,), 1)


def build(name, shape, seed=0, **arguments):
    return models.build(name, input_shape=shape[0], outputs=shape[1], seed=seed, arguments=arguments)


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("fc-relu", CIFAR, 656_810),
        ("fc-tanh-depth1", CIFAR, 616_610),
        ("fc-tanh-depth4", CIFAR, 737_210),
        ("fc-softplus-depth3", SCALAR, 81_001),
        ("cnn-relu", CIFAR, 30_634),
        ("cnn-avgpool-elu", CIFAR, 30_634),
        ("cnn-bn-tanh", CIFAR, 30_762),
        ("cnn-relu", DIGITS, 10_858),
        ("regression", SCALAR, 300),
        ("deeplinear", ((50,), 50), 50_000),
    ],
)
def test_number_of_parameters(name, shape, count):
    assert sum(p.numel() for p in build(name, shape).parameters()) == count


def by_hand_fc():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 200), nn.ELU(), nn.Linear(200, 200), nn.ELU(), nn.Linear(200, 10)
    )


def by_hand_cnn():
    first = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(32), nn.MaxPool2d(2)]
    second = [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(32), nn.MaxPool2d(2)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(128, 10))


def by_hand_regression():
    net = nn.Sequential(nn.Linear(1, 100), nn.Tanh(), nn.Linear(100, 1, bias=False))
    nn.init.xavier_normal_(net[0].weight, gain=1.9)
    nn.init.zeros_(net[0].bias)
    nn.init.xavier_normal_(net[2].weight)
    return net


def by_hand_deeplinear():
    layers = [nn.Linear(50, 50, bias=False)]
    nn.init.xavier_normal_(layers[0].weight)
    for _ in range(19):
        layers.append(nn.Linear(50, 50, bias=False))
        nn.init.xavier_normal_(layers[-1].weight)
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("name", "shape", "by_hand"),
    [
        ("fc-elu", DIGITS, by_hand_fc),
        ("cnn-bn-relu", DIGITS, by_hand_cnn),
        ("regression", SCALAR, by_hand_regression),
        ("deeplinear", ((50,), 50), by_hand_deeplinear),
    ],
)
def test_draws_and_outputs_are_those_of_plain_torch(name, shape, by_hand):
    ours = build(name, shape, seed=11)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        theirs = by_hand()
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    x = torch.randn(6, *shape[0], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(ours.double()(x), theirs.double()(x), rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def sets(cifar_like):
    """The first data set of every family."""
    return {f.names[0]: data.load(f.names[0], data_dir=cifar_like) for f in registry.families("data")}


@pytest.mark.parametrize("name", ["fc-tanh|mse", "cnn-bn-relu|ce", "cnn-avgpool-elu|mse"])
def test_first_losses_agree_with_the_reference(name, sets):
    arch, loss = name.split("|")
    made = sets["cifar10-1k"]
    net = build(arch, (made.input_shape, made.outputs), seed=5)
    one_hot = nn.functional.one_hot(made.targets, 10).float()
    losses = []
    for _ in range(3):
        out = net(made.inputs)
        half_squares = 0.5 * (out - one_hot).square().sum() / len(out)
        value = nn.functional.cross_entropy(out, made.targets) if loss == "ce" else half_squares
        losses.append(value.item())
        grads = torch.autograd.grad(value, list(net.parameters()))
        with torch.no_grad():
            for p, g in zip(net.parameters(), grads, strict=True):
                p -= 0.02 * g
    assert losses == pytest.approx(REFERENCE[name]["train_loss"], rel=1e-4)


@pytest.mark.parametrize(("degree", "sharpness"), [(3, 4.0335), (4, 4.0314), (5, 4.0321)])
def test_sharpness_of_the_regression_at_seed_0(degree, sharpness):
    made = data.load(f"chebyshev-{degree}-20")
    net = build("regression", SCALAR).double()
    shapes = {name: p.shape for name, p in net.named_parameters()}
    sizes = [p.numel() for p in net.parameters()]

    def loss(w):
        parts = {k: part.view(s) for (k, s), part in zip(shapes.items(), w.split(sizes), strict=True)}
        out = torch.func.functional_call(net, parts, (made.inputs,))
        return 0.5 * (out - made.targets).square().sum() / len(out)

    w = nn.utils.parameters_to_vector(net.parameters()).detach()
    hessian = torch.autograd.functional.hessian(loss, w, vectorize=True)
    assert torch.linalg.eigvalsh(hessian)[-1].item() == pytest.approx(sharpness, abs=6e-5)


def test_first_loss_of_the_deep_linear_network_at_seed_8():
    made = data.load("linear-50-50")
    net = build("deeplinear", (made.input_shape, made.outputs), seed=8).double()
    loss = 0.5 * (net(made.inputs) - made.targets).square().sum().item() / 50
    assert loss == pytest.approx(1219.4, abs=0.05)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("cnn-relu", SCALAR, ["4 x 4 pixels", r"\(1,\)", "1 output", "fc-tanh"]),
        ("cnn-relu", ((3, 2, 32), 10), ["4 x 4 pixels", r"\(3, 2, 32\)"]),
        ("regression", DIGITS, [r"\(1,\)", r"\(1, 8, 8\)", "10 outputs"]),
        ("regression", ((2,), 1), [r"\(1,\)", r"\(2,\)"]),
        ("deeplinear", ((10,), 10), [r"\(50,\)", r"\(10,\)", "width=10"]),
        ("deeplinear", SCALAR, [r"\(50,\)", r"\(1,\)"]),
        ("deeplinear", DIGITS, [r"\(50,\)", r"\(1, 8, 8\)", "linear-50-50"]),
        ("fc-relu", ((), 1), ["at least one dimension", r"\(n, 1\)"]),
    ],
)
def test_data_of_the_wrong_shape_is_refused(name, shape, words):
    for word in words:
        with pytest.raises(InputError, match=word):
            build(name, shape)


def test_sizes_can_be_chosen():
    net = build("fc-tanh", DIGITS, width=7, depth=3)
    assert [p.shape[0] for p in net.parameters()] == [7, 7, 7, 7, 7, 7, 10, 10]
    assert sum(p.numel() for p in build("deeplinear", ((3,), 3), width=3, depth=2).parameters()) == 18
    pooled_and_normalised = build("cnn-bn-elu", DIGITS, pool="avgpool", width=4, depth=1)
    assert [type(layer).__name__ for layer in pooled_and_normalised][:4] == [
        "Conv2d",
        "ELU",
        "BatchNorm",
        "AvgPool2d",
    ]


@pytest.mark.parametrize("arguments", [{"depth": 0}, {"width": -1}, {"width": "many"}, {"gain": 2.0}])
def test_arguments_that_do_not_fit_are_refused(arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        build("fc-tanh", DIGITS, **arguments)


def test_an_id_spells_its_arguments_once():
    with pytest.raises(InputError, match="already says depth=3"):
        build("fc-tanh-depth3", DIGITS, depth=4)


@pytest.mark.parametrize("shape", [(6, 3), (5, 3, 4, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_batchnorm_is_torch_batchnorm_on_batch_statistics(shape, training):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=draw, dtype=torch.float64, requires_grad=True)
    ours = BatchNorm(3).double().train(training)
    for p in ours.parameters():
        nn.init.normal_(p, generator=draw)
    expected = nn.functional.batch_norm(x, None, None, ours.weight, ours.bias, training=True)
    torch.testing.assert_close(ours(x), expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn(shape, generator=draw, dtype=torch.float64)
    wanted = [x, *ours.parameters()]
    for a, b in zip(
        torch.autograd.grad((ours(x) * weights).sum(), wanted),
        torch.autograd.grad((expected * weights).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert list(ours.state_dict()) == ["weight", "bias"]


@pytest.mark.filterwarnings(SCRIPTED)
def test_third_derivatives_through_batchnorm_agree_with_finite_differences():
    draw = torch.Generator().manual_seed(0)
    layer = BatchNorm(2).double()
    x, u = torch.randn(2, 5, 2, 3, 3, generator=draw, dtype=torch.float64)

    def f(x):
        return layer(x).pow(3).sum()

    def along(f):
        return lambda x: jvp(f, (x,), (u,))[1]

    second, third = along(along(f)), along(along(along(f)))
    h = 1e-4
    slope = (second(x + h * u) - second(x - h * u)) / (2 * h)
    assert third(x).item() == pytest.approx(slope.item(), rel=1e-6)
    curve = (f(x + h * u) - 2 * f(x) + f(x - h * u)) / h**2
    assert second(x).item() == pytest.approx(curve.item(), rel=1e-5)


# What every family owes. A new file in models/ is met here by its name alone.


@pytest.fixture(params=registry.families("models"), ids=lambda family: family.stem)
def fitting(request, sets):
    """A family with the inputs and outputs of each data set that it takes."""
    out = []
    for made in sets.values():
        x, outputs = made.inputs[:5], made.outputs
        try:
            build(request.param.names[0], (x.shape[1:], outputs))
        except InputError:
            continue
        out.append((x, outputs))
    return request.param, out


def test_family_takes_some_data_set(fitting):
    family, takes = fitting
    assert takes, f"{family.stem} takes none of the data sets"


def test_family_has_a_summary_and_a_default_for_every_argument(fitting):
    family, _ = fitting
    assert family.summary
    wanting = [key for key, (_, default) in family.arguments.items() if not default]
    assert set(wanting) <= set(registry.SUPPLIED)
    assert all(registry.find("models", name)[0].stem == family.stem for name in family.names)


def test_family_gives_one_output_vector_an_example_in_the_type_of_its_input(fitting):
    family, takes = fitting
    for name in family.names:
        for x, outputs in takes:
            net = build(name, (x.shape[1:], outputs))
            assert {p.dtype for p in net.parameters()} == {torch.float32}
            out = net.double()(x.double())
            assert out.dtype == torch.float64
            assert out.shape == (len(x), outputs)
            assert out.isfinite().all()


def test_family_is_a_function_of_the_seed_and_leaves_the_global_stream_alone(fitting):
    family, takes = fitting
    x, outputs = takes[0]
    before = torch.random.get_rng_state()

    def weights(seed):
        net = build(family.names[0], (x.shape[1:], outputs), seed=seed)
        return torch.cat([p.flatten() for p in net.parameters()])

    one = weights(1)
    torch.rand(3)
    after_draw = torch.random.get_rng_state()
    assert not torch.equal(before, after_draw)
    assert torch.equal(one, weights(1))
    assert not torch.equal(one, weights(2))
    assert torch.equal(torch.random.get_rng_state(), after_draw)


def test_family_evaluates_without_changing_itself(fitting):
    family, takes = fitting
    x, outputs = takes[0]
    net = build(family.names[0], (x.shape[1:], outputs)).double()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    first, second = net(x.double()), net(x.double())
    assert torch.equal(first, second)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


@pytest.mark.filterwarnings(SCRIPTED)
def test_third_derivatives_of_every_net_agree_with_finite_differences(fitting):
    """Forward over forward over forward: the mode in which fused kernels were found wrong."""
    family, takes = fitting
    x, outputs = min(takes, key=lambda taken: taken[0].numel())
    x = x.double()
    for name in family.names:
        net = build(name, (x.shape[1:], outputs), seed=3).double()
        start = {key: p.detach() for key, p in net.named_parameters()}
        draw = torch.Generator().manual_seed(0)
        along = {key: torch.randn(p.shape, generator=draw, dtype=p.dtype) for key, p in start.items()}
        size = torch.stack([u.square().sum() for u in along.values()]).sum().sqrt()

        def loss(t, net=net, start=start, along=along, size=size):
            w = {key: p + t * along[key] / size for key, p in start.items()}
            return 0.5 * torch.func.functional_call(net, w, (x,)).square().mean()

        def slope(f):
            return lambda t: jvp(f, (t,), (torch.ones_like(t),))[1]

        second = slope(slope(loss))
        zero, h = torch.zeros((), dtype=torch.float64), 1e-5
        expected = ((second(zero + h) - second(zero - h)) / (2 * h)).item()
        assert slope(second)(zero).item() == pytest.approx(expected, rel=1e-5, abs=1e-9), name


def test_make_takes_keywords_only():
    for family in registry.families("models"):
        parameters = inspect.signature(importlib.import_module(family.module).make).parameters.values()
        assert {p.kind for p in parameters} == {inspect.Parameter.KEYWORD_ONLY}
