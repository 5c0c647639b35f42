"""Networks: sizes, order of random draws, refusals, batch normalisation, and what every family owes."""

import importlib
import inspect
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import jvp

from limen import Supervised, data, models, registry
from limen.errors import InputError
from limen.models import resnet32
from limen.models._attention import CausalSelfAttention, EncoderLayer
from limen.models._norm import BatchNorm, LayerNorm
from limen.types import Batch

REFERENCE = json.loads((Path(__file__).parent / "reference" / "first_losses.json").read_text())
# PyTorch scripts its own decompositions when forward mode is first used.
SCRIPTED = "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
FC_ACTIVATIONS = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh,
    "softplus": nn.Softplus,
}
CNN_ACTIVATIONS = {name: FC_ACTIVATIONS[name] for name in ("relu", "elu", "tanh")}
CIFAR, DIGITS, SCALAR, TEXT = ((3, 32, 32), 10), ((1, 8, 8), 10), ((1,), 1), ((7,), 11)


def build(name, shape, seed=0, **arguments):
    return models.build(name, input_shape=shape[0], outputs=shape[1], seed=seed, arguments=arguments)


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        # 3072 x 200 + 200, then 200 x 200 + 200 for each further hidden layer, then 200 x 10 + 10
        *((f"fc-{act}", CIFAR, 656_810) for act in FC_ACTIVATIONS),
        *((f"fc-tanh-depth{d}", CIFAR, 576_410 + 40_200 * d) for d in (1, 2, 3, 4)),
        ("fc-softplus-depth3", SCALAR, 81_001),
        # 3 x 9 x 32 + 32, 32 x 9 x 32 + 32, 2048 x 10 + 10; scales and shifts 2 x 64
        *((f"cnn-{act}", CIFAR, 30_634) for act in CNN_ACTIVATIONS),
        *((f"cnn-avgpool-{act}", CIFAR, 30_634) for act in CNN_ACTIVATIONS),
        *((f"cnn-bn-{act}", CIFAR, 30_762) for act in CNN_ACTIVATIONS),
        ("cnn-relu", DIGITS, 10_858),
        ("regression", SCALAR, 300),
        ("deeplinear", ((50,), 50), 50_000),
        # convolutions 9 220 480, linear layers 2 x 262 656 + 5 130, scales and shifts 2 x 2 752
        ("vgg11", CIFAR, 9_750_922),
        ("vgg11-bn", CIFAR, 9_756_426),
        ("vgg11", ((1, 64, 32), 10), 9_750_922 - 2 * 64 * 9 + 512 * 512),
        # convolutions 432 + 23 040 + 87 552 + 350 208, scales and shifts 2 272 + 96, linear 650
        ("resnet32", CIFAR, 464_250),
        ("resnet32", DIGITS, 464_250 - 2 * 16 * 9),
        # convolutions 14 710 464 and biases 4 224, linear layers 2 x 262 656 + 5 130, scales and shifts 2 x 4 224
        *((name, CIFAR, 15_245_130) for name in ("vgg16", "vgg16gelu", "vgg16geludo")),
        ("vgg16bngelu", CIFAR, 15_253_578),
        # as torchvision has them, for 1000 classes
        ("resnet18", ((3, 224, 224), 1000), 11_689_512),
        ("resnet50", ((3, 224, 224), 1000), 25_557_032),
        # stem 7 x 7 to 3 x 3, 1000 classes to 100
        ("resnetlowres", ((3, 32, 32), 100), 11_689_512 - 3 * 64 * 40 - 900 * 513),
        # 200 V words, 200 T positions, two layers of 160 800 + 80 400 + 800, head 201 V
        ("transformer", ((35,), 33_278), 401 * 33_278 + 7_000 + 484_000),
    ],
)
def test_number_of_parameters(name, shape, count):
    assert sum(p.numel() for p in build(name, shape).parameters()) == count


def by_hand_fc(act, depth=2, features=64):
    layers = [nn.Flatten(), nn.Linear(features, 200), act()]
    for _ in range(depth - 1):
        layers += [nn.Linear(200, 200), act()]
    return nn.Sequential(*layers, nn.Linear(200, 10))


def by_hand_cnn(act, pool=nn.MaxPool2d, norm=False, channels=1, left=2 * 2):
    layers = []
    for before in (channels, 32):
        layers += [nn.Conv2d(before, 32, (3, 3), stride=1, padding=1), act()]
        layers += [nn.BatchNorm2d(32), pool((2, 2))] if norm else [pool((2, 2))]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * left, 10))


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


def by_hand_vgg(norm):
    convs = [(3, 64, True), (64, 128, True), (128, 256, False), (256, 256, True), (256, 512, False)]
    convs += [(512, 512, True), (512, 512, False), (512, 512, True)]
    layers = []
    for before, after, pooled in convs:
        layers += [
            nn.Conv2d(before, after, 3, padding=1),
            *([nn.BatchNorm2d(after)] if norm else []),
            nn.ReLU(),
        ]
        layers += [nn.MaxPool2d(2, 2)] if pooled else []
    layers += [
        nn.Flatten(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    ]
    net = nn.Sequential(*layers)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.normal_(0, (2 / (3 * 3 * layer.out_channels)) ** 0.5)
            layer.bias.data.zero_()
    return net


class TorchBlock(nn.Module):
    """A residual block in torch's own layers."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.a, self.bn_a = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.b, self.bn_b = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.pool = self.bn = None
        if before != after:
            self.pool, self.bn = nn.AvgPool2d(1, stride), nn.BatchNorm2d(before)

    def forward(self, x):
        y = self.bn_b(self.b(torch.relu(self.bn_a(self.a(x)))))
        if self.pool is not None:
            x = self.bn(self.pool(x))
            x = torch.cat((x, 0 * x), 1)
        return torch.relu(x + y)


def by_hand_resnet():
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    layers += [TorchBlock(16, 16, 1) for _ in range(5)]
    layers += [TorchBlock(16, 32, 2), *(TorchBlock(32, 32, 1) for _ in range(4))]
    layers += [TorchBlock(32, 64, 2), *(TorchBlock(64, 64, 1) for _ in range(4))]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    for layer in net.modules():
        if isinstance(layer, TorchBlock):
            nn.init.zeros_(layer.bn_b.weight)
    return net


def by_hand_vgg16(act, norm=False, dropout=False):
    widths = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
    layers, before = [], 3
    for after in widths:
        if after == "M":
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers += [nn.Conv2d(before, after, 3, padding=1), *([nn.BatchNorm2d(after)] if norm else []), act()]
        before = after
    drop = [nn.Dropout()] if dropout else []
    head = [nn.Linear(512, 512), act(), *drop, nn.Linear(512, 512), act(), *drop, nn.Linear(512, 10)]
    net = nn.Sequential(*layers, nn.Flatten(), *head)
    for layer in net:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(layer.weight, 0, (2 / layer.weight[0].numel()) ** 0.5)
            nn.init.zeros_(layer.bias)
    return net.eval() if dropout else net


class TorchResidual(nn.Module):
    """A block of a residual network, basic or with a bottleneck, in torch's own layers."""

    def __init__(self, before, width, stride, bottleneck, act):
        super().__init__()
        after = 4 * width if bottleneck else width
        reshape = stride > 1 or before != after
        kept = [nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)] if reshape else []
        if bottleneck:
            convs = [(before, width, 1, 1), (width, width, 3, stride), (width, after, 1, 1)]
        else:
            convs = [(before, width, 3, stride), (width, width, 3, 1)]
        self.inner = nn.Sequential()
        for a, b, size, step in convs:
            self.inner.extend([nn.Conv2d(a, b, size, step, size // 2, bias=False), nn.BatchNorm2d(b), act()])
        self.inner.pop(-1)
        self.kept, self.act = nn.Sequential(*kept), act()

    def forward(self, x):
        return self.act(self.inner(x) + self.kept(x))


def by_hand_deep_resnet(counts, bottleneck=False, lowres=False, outputs=10, act=nn.ReLU):
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), act(), nn.MaxPool2d(3, 2, 1)]
    blocks, before = [], 64
    for stage, count in enumerate(counts):
        for k in range(count):
            blocks.append(TorchResidual(before, 64 << stage, 2 if k == 0 < stage else 1, bottleneck, act))
            before = (256 if bottleneck else 64) << stage
    net = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs))
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0, (2 / layer.weight[:, 0].numel()) ** 0.5)
    if lowres:
        net[0], net[3] = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return net


class TorchTransformer(nn.Module):
    """Torch's own encoder layers between embeddings and a linear map."""

    def __init__(self, T, V):
        super().__init__()
        self.words, self.places = nn.Embedding(V, 200), nn.Embedding(T, 200)
        sizes = {"d_model": 200, "nhead": 2, "dim_feedforward": 200, "dropout": 0.0, "batch_first": True}
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(**sizes) for _ in range(2))
        self.head = nn.Linear(200, V)

    def forward(self, words):
        T = words.shape[1]
        x = self.words(words) + self.places(torch.arange(T))
        for layer in self.layers:
            x = layer(x, src_mask=nn.Transformer.generate_square_subsequent_mask(T, dtype=x.dtype))
        return self.head(x)


def some_input(shape):
    draw = torch.Generator().manual_seed(1)
    inputs, outputs = shape
    if shape == TEXT:
        return torch.randint(0, outputs, (6, *inputs), generator=draw)
    return torch.randn(6, *inputs, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "shape", "by_hand"),
    [
        *((f"fc-{name}", DIGITS, partial(by_hand_fc, act)) for name, act in FC_ACTIVATIONS.items()),
        *((f"fc-tanh-depth{d}", DIGITS, partial(by_hand_fc, nn.Tanh, d)) for d in (1, 2, 3, 4)),
        ("fc-tanh", CIFAR, partial(by_hand_fc, nn.Tanh, features=3072)),
        *((f"cnn-{name}", DIGITS, partial(by_hand_cnn, act)) for name, act in CNN_ACTIVATIONS.items()),
        *(
            (f"cnn-avgpool-{name}", DIGITS, partial(by_hand_cnn, act, nn.AvgPool2d))
            for name, act in CNN_ACTIVATIONS.items()
        ),
        *(
            (f"cnn-bn-{name}", DIGITS, partial(by_hand_cnn, act, norm=True))
            for name, act in CNN_ACTIVATIONS.items()
        ),
        ("cnn-relu", CIFAR, partial(by_hand_cnn, nn.ReLU, channels=3, left=8 * 8)),
        ("regression", SCALAR, by_hand_regression),
        ("deeplinear", ((50,), 50), by_hand_deeplinear),
        ("vgg11", CIFAR, partial(by_hand_vgg, norm=False)),
        ("vgg11-bn", CIFAR, partial(by_hand_vgg, norm=True)),
        ("resnet32", CIFAR, by_hand_resnet),
        ("vgg16", CIFAR, partial(by_hand_vgg16, nn.ReLU)),
        ("vgg16gelu", CIFAR, partial(by_hand_vgg16, nn.GELU)),
        ("vgg16bngelu", CIFAR, partial(by_hand_vgg16, nn.GELU, norm=True)),
        ("vgg16geludo", CIFAR, partial(by_hand_vgg16, nn.GELU, dropout=True)),
        ("resnet18", CIFAR, partial(by_hand_deep_resnet, (2, 2, 2, 2))),
        ("resnet50", CIFAR, partial(by_hand_deep_resnet, (3, 4, 6, 3), bottleneck=True)),
        ("resnetlowres", CIFAR, partial(by_hand_deep_resnet, (2, 2, 2, 2), lowres=True, act=nn.GELU)),
        ("transformer", TEXT, partial(TorchTransformer, 7, 11)),
    ],
)
def test_draws_and_outputs_are_those_of_plain_torch(name, shape, by_hand):
    ours = build(name, shape, seed=11)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        theirs = by_hand()
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for a, b in pairs:  # zeros and ones would hide a mistake
            a += 0.02 * torch.randn(a.shape, generator=draw)
            b.copy_(a)
    x = some_input(shape)
    torch.testing.assert_close(ours.double()(x), theirs.double()(x), rtol=1e-10, atol=1e-10)


def test_every_name_has_its_count_and_its_draws_tested():
    """A name added to a family without its reconstruction fails here."""
    tested = [
        {case[0] for mark in test.pytestmark for case in mark.args[1]}
        for test in (test_number_of_parameters, test_draws_and_outputs_are_those_of_plain_torch)
    ]
    for family in registry.families("models"):
        for names in tested:
            assert set(family.names) <= names


@pytest.fixture(scope="module")
def sets(data_dir):
    """The first data set of every family that needs no extra."""
    families = [f for f in registry.families("data") if f.stem != "mnist5k"]
    return {f.names[0]: data.load(f.names[0], data_dir=data_dir) for f in families}


def losses_by_hand(name, made, steps):
    """The first losses of plain descent with lr 0.02 from seed 5, `name` as in the reference."""
    arch, loss = name.split("|")
    net = build(arch, (made.input_shape, made.outputs), seed=5)
    one_hot = nn.functional.one_hot(made.targets, 10).float()
    losses = []
    for step in range(steps):
        with torch.set_grad_enabled(step < steps - 1):
            out = net(made.inputs)
            half_squares = 0.5 * (out - one_hot).square().sum() / len(out)
            value = nn.functional.cross_entropy(out, made.targets) if loss == "ce" else half_squares
        losses.append(value.item())
        if value.requires_grad:
            grads = torch.autograd.grad(value, list(net.parameters()))
            with torch.no_grad():
                for p, g in zip(net.parameters(), grads, strict=True):
                    p -= 0.02 * g
    return losses


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("fc-tanh|mse", 3),
        ("cnn-bn-relu|ce", 3),
        ("cnn-avgpool-elu|mse", 3),
        ("resnet32|ce", 1),
        pytest.param("resnet32|ce", 3, marks=pytest.mark.slow),
    ],
)
def test_first_losses_agree_with_the_reference(name, steps, sets):
    expected = REFERENCE[name]["train_loss"][:steps]
    assert losses_by_hand(name, sets["cifar10-1k"], steps) == pytest.approx(expected, rel=1e-4)


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
        ("vgg11", DIGITS, ["32 x 32 pixels", r"\(1, 8, 8\)", "cnn-relu"]),
        ("vgg11-bn", ((1, 28, 28), 10), ["32 x 32 pixels", r"\(1, 28, 28\)", "textures-1k"]),
        ("resnet32", SCALAR, [r"\(channels, height, width\)", r"\(1,\)", "fc-tanh"]),
        ("vgg16gelu", DIGITS, ["32 x 32 pixels", r"\(1, 8, 8\)", "cnn-relu"]),
        ("resnet18", SCALAR, [r"\(channels, height, width\)", r"\(1,\)", "fc-tanh"]),
        ("resnetlowres", SCALAR, ["resnetlowres takes images", r"\(1,\)", "fc-tanh"]),
        ("transformer", DIGITS, ["word numbers", r"\(1, 8, 8\)", "english"]),
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


@pytest.mark.parametrize("shape", [(6, 4), (2, 5, 4)])
@pytest.mark.parametrize("training", [True, False])
def test_layernorm_is_torch_layernorm(shape, training):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=draw, dtype=torch.float64, requires_grad=True)
    ours, theirs = LayerNorm(4).double().train(training), nn.LayerNorm(4).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        nn.init.normal_(a, generator=draw)
        b.data.copy_(a)
    weights = torch.randn(shape, generator=draw, dtype=torch.float64)
    (grad,) = torch.autograd.grad((ours(x) * weights).sum(), x)
    (expected,) = torch.autograd.grad((theirs(x) * weights).sum(), x)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings(SCRIPTED)
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: BatchNorm(2), (5, 2, 3, 3)),
        (lambda: LayerNorm(6), (2, 4, 6)),
        (lambda: CausalSelfAttention(6, 2), (2, 4, 6)),
        (lambda: EncoderLayer(6, 3, 8), (2, 4, 6)),
        (lambda: resnet32.Shortcut(2, 2), (3, 2, 4, 4)),
        (lambda: resnet32.Block(2, 4, 2, resnet32.Shortcut(2, 2)), (3, 2, 4, 4)),
    ],
    ids=["BatchNorm", "LayerNorm", "CausalSelfAttention", "EncoderLayer", "Shortcut", "Block"],
)
def test_second_and_third_derivatives_through_a_layer_in_every_mode(layer, shape):
    """Forward over forward, forward over reverse, reverse over reverse; against finite differences."""
    draw = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = layer().double()
    start = {key: p.detach() for key, p in net.named_parameters()}
    start["input"] = torch.zeros(shape, dtype=torch.float64)
    flat = {key: torch.randn(p.shape, generator=draw, dtype=torch.float64) for key, p in start.items()}
    start = {key: p + 0.3 * torch.randn(p.shape, generator=draw).double() for key, p in start.items()}
    start["input"] = torch.randn(shape, generator=draw, dtype=torch.float64)

    def f(w):  # of input and weights, so that all their mixed derivatives count
        w = dict(w)
        return torch.func.functional_call(net, w, (w.pop("input"),)).pow(3).sum()

    def forward(f):
        return lambda w: jvp(f, (w,), (flat,))[1]

    def reverse(f):
        return lambda w: sum((g * flat[key]).sum() for key, g in torch.func.grad(f)(w).items())

    def at(t):
        return {key: p + t * flat[key] for key, p in start.items()}

    h = 1e-4
    second = forward(reverse(f))
    curve = ((forward(f)(at(h)) - forward(f)(at(-h))) / (2 * h)).item()
    slope = ((second(at(h)) - second(at(-h))) / (2 * h)).item()
    for outer in (forward, reverse):
        for inner in (forward, reverse):
            assert outer(inner(f))(start).item() == pytest.approx(curve, rel=1e-5)
            assert forward(outer(inner(f)))(start).item() == pytest.approx(slope, rel=1e-5)
    assert reverse(reverse(reverse(f)))(start).item() == pytest.approx(slope, rel=1e-5)


def test_attention_sees_the_past_only():
    net = build("transformer", TEXT).double()
    words = some_input(TEXT)
    out = net(words)
    for t in range(1, 7):
        changed = words.clone()
        changed[:, t] = (changed[:, t] + 1) % 11
        moved = (net(changed) - out).abs().amax((0, 2))
        assert moved[:t].max() < 1e-12
        assert moved[t:].min() > 1e-3


def test_a_transformer_reads_words_only():
    with pytest.raises(InputError, match=r"word numbers \(int64\), got float32.*english"):
        build("transformer", ((50,), 50))(torch.randn(2, 50))
    with pytest.raises(InputError, match=r"width=200, heads=3.*width=198"):
        build("transformer", TEXT, heads=3)


def test_networks_with_batchnorm_depend_on_their_ghost_batch(sets):
    made = sets["digits"]
    x, y = made.inputs[:12], made.targets[:12]

    def loss(size):
        net = build("resnet32", DIGITS)
        return Supervised(net, x, y, "ce", physical_batch_size=size, dtype=torch.float64)

    whole, parts = loss(12), loss(4)
    w = whole.start() + 0.05  # away from the second scales' zeros
    assert whole.ghost_batches
    assert whole.point(w).loss.item() != pytest.approx(parts.point(w).loss.item(), rel=1e-6)
    chunks = [parts.point(w, Batch(whole.inputs[k : k + 4], y[k : k + 4])).loss for k in (0, 4, 8)]
    torch.testing.assert_close(parts.point(w).loss, torch.stack(chunks).mean(), rtol=1e-12, atol=0)


# What every family owes. A new file in models/ is met here by its name alone.


@pytest.fixture(params=registry.families("models"), ids=lambda family: family.stem)
def fitting(request, sets):
    """A family with a few inputs and the shape of outputs of each data set that it takes."""
    out = []
    for made in {(made.input_shape, made.outputs): made for made in sets.values()}.values():
        x = as_read(made.inputs[:4])
        try:
            build(request.param.names[0], (x.shape[1:], made.outputs)).double()(x)
        except InputError:
            continue
        except RuntimeError:
            if x.is_floating_point():
                raise
            continue  # torch multiplies no word numbers
        out.append((x, made.outputs, made.targets.shape[1:] if made.classes else ()))
    return request.param, out


def as_read(x):
    return x.double() if x.is_floating_point() else x


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
        for x, outputs, places in takes:
            net = build(name, (x.shape[1:], outputs))
            assert {p.dtype for p in net.parameters()} == {torch.float32}
            out = net.double()(x)
            assert out.dtype == torch.float64
            assert out.shape == (len(x), *places, outputs)
            assert out.isfinite().all()


def test_family_is_a_function_of_the_seed_and_leaves_the_global_stream_alone(fitting):
    family, takes = fitting
    x, outputs, _ = takes[0]
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
    x, outputs, _ = takes[0]
    net = build(family.names[0], (x.shape[1:], outputs)).double()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    first, second = net(x), net(x)
    assert torch.equal(first, second)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


LARGE = ("vgg11", "vgg16", "resnet", "resnetlowres")
"""Families whose third derivatives take ten seconds or more; their layers are those of the others."""


@pytest.mark.filterwarnings(SCRIPTED)
@pytest.mark.parametrize(
    "fitting",
    [
        pytest.param(family, id=family.stem, marks=[pytest.mark.slow] * (family.stem in LARGE))
        for family in registry.families("models")
    ],
    indirect=True,
)
def test_third_derivatives_of_every_net_agree_with_finite_differences(fitting):
    """Forward over forward over forward: the mode in which fused kernels were found wrong."""
    family, takes = fitting
    x, outputs, _ = min(takes, key=lambda taken: (taken[0].numel(), taken[1]))
    for name in family.names:
        net = build(name, (x.shape[1:], outputs), seed=3).double()
        draw = torch.Generator().manual_seed(0)
        start = {
            # some first weights are zero, and leave a relu at its kink
            key: p.detach() + 0.02 * torch.randn(p.shape, generator=draw, dtype=p.dtype)
            for key, p in net.named_parameters()
        }
        along = {key: torch.randn(p.shape, generator=draw, dtype=p.dtype) for key, p in start.items()}
        size = torch.stack([u.square().sum() for u in along.values()]).sum().sqrt()

        # only batch statistics need several examples
        seen = x if any(isinstance(part, BatchNorm) for part in net.modules()) else x[:1]

        def loss(t, net=net, start=start, along=along, size=size, seen=seen):
            w = {key: p + t * along[key] / size for key, p in start.items()}
            return 0.5 * torch.func.functional_call(net, w, (seen,)).square().mean()

        def slope(f):
            return lambda t: jvp(f, (t,), (torch.ones_like(t),))[1]

        second = slope(slope(loss))
        zero = torch.zeros((), dtype=torch.float64)
        found, expected = slope(second)(zero).item(), []
        for h in (1e-5, 1e-7):  # a large net may have a relu's kink within the larger step
            expected.append(((second(zero + h) - second(zero - h)) / (2 * h)).item())
            if found == pytest.approx(expected[-1], rel=1e-5, abs=1e-9):
                break
        else:
            pytest.fail(f"{name}: {found}, by differences {expected}")


def test_make_takes_keywords_only():
    for family in registry.families("models"):
        parameters = inspect.signature(importlib.import_module(family.module).make).parameters.values()
        assert {p.kind for p in parameters} == {inspect.Parameter.KEYWORD_ONLY}
