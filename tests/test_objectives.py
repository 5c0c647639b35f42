"""A network on data against closed forms, torch's own Hessian and finite differences."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from limen import Batch, Need, Quadratic, State, Supervised, data, models
from limen.errors import InputError
from limen.models._norm import BatchNorm
from limen.objectives import point as point_module

# the networks of every family meet finite differences in test_models
NETS = ["fc-tanh", "regression", "deeplinear", "cnn-relu", "cnn-bn-tanh", "cnn-avgpool-elu"]


FEW = {"vgg11": 8, "resnet32": 12, "transformer": 12}  # examples that large nets are given
LOSSES = {"regression": ("mse",), "deeplinear": ("mse",), "transformer": ("ce",), "vgg11": ("ce",)}


def objective(net: str = "fc-tanh", loss: str = "mse", n: int = 40, **kwargs: object) -> Supervised:
    n, loss = min(n, FEW.get(net, n)), loss if loss in LOSSES.get(net, (loss,)) else LOSSES[net][0]
    ids: dict[str, tuple[str, dict[str, int]]] = {
        "regression": ("chebyshev-4-20", {}),
        "deeplinear": ("linear-50-50", {}),
        "vgg11": ("textures", {"n": n, "n_test": 4}),
        "transformer": ("english", {"n": n, "n_test": 4, "length": 6, "vocabulary": 40}),
    }
    made = data.load(*ids.get(net, ("digits", {"n": n})))
    module = models.build(net, input_shape=made.input_shape, outputs=made.outputs)
    test = (made.test_inputs, made.test_targets)
    return Supervised(module, made.inputs, made.targets, loss, test=test, dtype=torch.float64, **kwargs)  # type: ignore[arg-type]


def small() -> Supervised:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    return Supervised(
        net, torch.randn(10, 3).double(), torch.randn(10, 2).double(), "mse", physical_batch_size=4
    )


def test_linear_least_squares_has_its_closed_form() -> None:
    torch.manual_seed(0)
    X, Y = torch.randn(30, 4).double(), torch.randn(30, 1).double()
    linear = Supervised(nn.Linear(4, 1, bias=False).double(), X, Y, "mse", physical_batch_size=7)
    w = torch.randn(4).double()
    point = linear.point(w)
    r = X @ w - Y[:, 0]
    assert torch.allclose(point.loss, 0.5 * (r @ r) / 30, rtol=1e-12)
    assert torch.allclose(point.grad, X.T @ r / 30, rtol=1e-12)
    v = torch.randn(4).double()
    assert torch.allclose(point.hvp(v), X.T @ X @ v / 30, rtol=1e-12)
    assert torch.allclose(point.predictions[:, 0], X @ w, rtol=1e-12)
    head = X[:11]
    assert torch.allclose(point.curvature(11).matvec(v), head.T @ head @ v / 11, rtol=1e-12)
    assert point.d3(v, v).abs().max() == 0


def test_cross_entropy_and_accuracy_count_examples() -> None:
    net = nn.Linear(2, 3, bias=False).double()
    X = torch.eye(2).double().repeat(3, 1)
    y = torch.tensor([0, 1, 2, 1, 0, 1])
    made = Supervised(net, X, y, "ce", physical_batch_size=4)
    W = torch.tensor([[5.0, 0], [0, 5], [0, 0]]).double()
    point = made.point(W.flatten())
    logits = X @ W.T
    assert torch.allclose(point.loss, (logits.logsumexp(1) - logits[range(6), y]).mean())
    assert math.isclose(point.accuracy.item(), 5 / 6)
    soft = Supervised(net, X, nn.functional.one_hot(y, 3).double(), "ce").point(W.flatten())
    assert torch.allclose(soft.loss, point.loss)
    assert torch.allclose(soft.grad, point.grad)
    assert soft.accuracy == point.accuracy


def test_hessian_against_torch_and_finite_differences() -> None:
    made = small()
    w = made.start() + 0.1

    def loss(w: torch.Tensor) -> torch.Tensor:
        out = torch.func.functional_call(made.module, made.unflatten(w), (made.inputs,))
        return 0.5 * (out - made.loss.targets).square().sum() / 10

    H = torch.autograd.functional.hessian(loss, w)
    assert torch.allclose(made.point(w).hvp(torch.eye(made.dim).double()), H, atol=1e-12)


@pytest.mark.parametrize(
    ("net", "loss"), [(net, loss) for net in NETS for loss in LOSSES.get(net, ("mse", "ce"))]
)
def test_second_and_third_derivatives_by_finite_differences(net: str, loss: str) -> None:
    made = objective(net, loss, n=12, physical_batch_size=5)
    generator = torch.Generator().manual_seed(3)
    w = made.start() + 0.01 * torch.randn(made.dim, generator=generator, dtype=torch.float64)
    u, v = (torch.randn(made.dim, generator=generator, dtype=torch.float64) for _ in range(2))
    u, v, eps = u / u.norm(), v / v.norm(), 1e-5
    ahead, behind = made.point(w + eps * v), made.point(w - eps * v)
    assert relative((ahead.grad - behind.grad) / (2 * eps), made.point(w).hvp(v)) < 1e-5
    here = made.point(w).d3(u, v)
    assert relative((ahead.hvp(u) - behind.hvp(u)) / (2 * eps), here) < 1e-4


NATIVE = {
    "batch": (nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2)),
    "layer": (nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2)),
    "layer, no bias": (nn.Linear(4, 6), nn.LayerNorm(6, bias=False), nn.Tanh(), nn.Linear(6, 2)),
    "group": (
        nn.Unflatten(1, (1, 2, 2)),
        nn.Conv2d(1, 4, 2, padding=1),
        nn.GroupNorm(2, 4),
        nn.Tanh(),
        nn.Flatten(),
    ),
    "instance": (
        *(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 4, 2, padding=1), nn.InstanceNorm2d(4, affine=True)),
        *(nn.Tanh(), nn.Flatten()),
    ),
    "one norm twice": (
        nn.Linear(4, 4),
        shared := nn.LayerNorm(4),
        nn.Tanh(),
        nn.Linear(4, 4),
        shared,
        nn.Tanh(),
    ),
}


@pytest.mark.parametrize("norm", NATIVE)
def test_third_derivatives_through_norm_layers_of_torch(norm: str) -> None:
    generator = torch.Generator().manual_seed(1)
    net = nn.Sequential(*NATIVE[norm]).double()
    x = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    made = Supervised(net, x, torch.sin(net(x)).detach(), "mse")
    draws = 0.3 * torch.randn(3, made.dim, generator=generator, dtype=torch.float64)
    w, (u, v), eps = made.start() + draws[0], draws[1:], 1e-5
    ahead, behind = made.point(w + eps * v), made.point(w - eps * v)
    assert relative((ahead.hvp(u) - behind.hvp(u)) / (2 * eps), made.point(w).d3(u, v)) < 1e-6


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp(min=1e-6))


@pytest.mark.parametrize("net", NETS)
def test_values_depend_on_chunks_only_with_ghost_batches(net: str) -> None:
    whole, parts = objective(net), objective(net, physical_batch_size=7)
    w, v = whole.start(), torch.randn(whole.dim, generator=torch.Generator().manual_seed(0)).double()
    assert whole.ghost_batches == ("-bn" in net or net == "resnet32")
    same = torch.allclose(whole.point(w).loss, parts.point(w).loss, rtol=1e-12)
    assert same != whole.ghost_batches
    if not whole.ghost_batches:
        assert relative(parts.point(w).grad, whole.point(w).grad) < 1e-12
        assert relative(parts.point(w).hvp(v), whole.point(w).hvp(v)) < 1e-11
        assert (
            relative(parts.point(w).curvature(10).matvec(v), whole.point(w).curvature(10).matvec(v)) < 1e-11
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("net", NETS)
def test_looking_at_curvature_changes_no_bit(net: str, dtype: torch.dtype) -> None:
    made = objective(net, physical_batch_size=16)
    made = Supervised(
        made.module, made.inputs, made.loss.targets, made.loss.name, dtype=dtype, physical_batch_size=16
    )
    w = made.start()
    plain = made.point(w, need=Need.LOSS | Need.GRAD)
    looked = made.point(w, need=Need.LOSS | Need.GRAD | Need.CURVATURE | Need.PREDICTIONS)
    assert torch.equal(plain.grad, looked.grad)
    assert torch.equal(plain.loss, looked.loss)
    assert torch.equal(made.point(w).loss, looked.loss)


def test_a_graph_that_is_not_kept_gives_the_same_bits() -> None:
    kept, again = objective(physical_batch_size=11), objective(physical_batch_size=11, graph_memory=0)
    w, V = kept.start(), torch.randn(3, kept.dim, generator=torch.Generator().manual_seed(0)).double()
    point = again.point(w, need=Need.CURVATURE)
    assert torch.equal(kept.point(w, need=Need.CURVATURE).hvp(V), point.hvp(V))
    assert len(point._kept) == 0
    assert kept.kept_chunks() > 4


def test_kept_graphs_stay_within_their_budget() -> None:
    made = objective(n=400, physical_batch_size=50)
    made.graph_memory = 3 * made._chunk_graph_bytes
    point = made.point(made.start(), need=Need.CURVATURE)
    point.hvp(made.start())
    assert len(point._kept) == 3


def test_an_unnamed_chunk_grows_to_a_fixed_bound_of_memory_only_where_examples_are_alone() -> None:
    x, y = torch.randn(5000, 6), torch.randn(5000, 2)
    wide = nn.Sequential(nn.Linear(6, 4000), nn.Tanh(), nn.Linear(4000, 2))
    plain, named = Supervised(wide, x, y, "mse"), Supervised(wide, x, y, "mse", physical_batch_size=1000)
    assert 1000 < plain.chunk_size < 5000
    assert plain._chunk_graph_bytes <= 64 << 20 < plain._chunk_graph_bytes * 1.01
    assert (
        Supervised(wide, x, y, "mse", graph_memory=1).chunk_size == plain.chunk_size
    )  # what is free says nothing
    assert named.chunk_size == 1000
    w = plain.start()
    assert torch.allclose(plain.point(w).loss, named.point(w).loss, rtol=1e-6)
    assert relative(plain.point(w).grad, named.point(w).grad) < 1e-5
    ghost = Supervised(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2)), x, y, "mse")
    assert (ghost.chunk_size, ghost.describe()["physical_batch_size"]) == (1000, 1000)
    assert Supervised(wide, x[:900], y[:900], "mse").chunk_size == 1000


def test_an_unnamed_chunk_shrinks_where_its_graph_would_be_huge() -> None:
    x, y = torch.randn(1200, 6), torch.randn(1200, 2)
    huge = nn.Sequential(nn.Linear(6, 100_000), nn.Tanh(), nn.Linear(100_000, 2))
    made = Supervised(huge, x, y, "mse")
    assert 100 < made.chunk_size < 1000
    assert made._chunk_graph_bytes <= 512 << 20 < made._chunk_graph_bytes * 1.01
    assert Supervised(huge, x, y, "mse", physical_batch_size=1000).chunk_size == 1000


def test_one_pass_serves_all_that_was_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    real = point_module.functional_call

    def counted(*args: object) -> torch.Tensor:
        passes.append(1)
        return real(*args)  # type: ignore[arg-type]

    made = small()
    made._chunk_graph_bytes  # noqa: B018 - the memory estimate, once an objective
    monkeypatch.setattr(point_module, "functional_call", counted)
    point = made.point(made.start(), need=Need.LOSS | Need.GRAD | Need.CURVATURE | Need.PREDICTIONS)
    assert not passes  # lazy
    for _ in range(2):
        assert point.loss.isfinite()
        assert point.accuracy.isnan()
        assert point.grad.shape == (made.dim,)
        assert point.predictions.shape == (10, 2)
    assert len(passes) == 3  # chunks of 4, 4, 2
    point.hvp(made.start())
    assert len(passes) == 3


def test_the_users_module_is_never_touched() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(108, 10)
    )
    net.train()
    before = copy.deepcopy(net.state_dict())
    x, y = torch.randn(20, 1, 8, 8), torch.arange(20) % 10
    made = Supervised(net, x, y, "ce", test=(x, y), physical_batch_size=8)
    assert made.ghost_batches
    state = State(made.start(), torch.zeros(()))
    point = made.at(state, need=Need.GRAD | Need.CURVATURE)
    point.hvp(point.grad)
    assert made.test is not None
    assert made.test.at(state).loss.isfinite()
    assert net.training
    assert all(torch.equal(before[name], x) for name, x in net.state_dict().items())
    assert torch.equal(made.at(state).grad, point.grad)  # dropout is off: nothing is random
    net.load_state_dict(made.state_dict(state), strict=False)


def test_a_callers_no_grad_does_not_reach_inside() -> None:
    made = small()
    w = made.start()
    outside = made.point(w, need=Need.CURVATURE)
    expected = outside.grad, outside.hvp(w), outside.d3(w, w)
    with torch.no_grad():
        inside = made.point(w, need=Need.CURVATURE)
        found = made.point(w).grad, inside.hvp(w), inside.d3(w, w)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
        assert theirs.norm() > 0


def test_state_dict_goes_back_into_the_module() -> None:
    made = objective("cnn-bn-tanh")
    w = made.start() + 1
    net = models.build("cnn-bn-tanh", input_shape=(1, 8, 8), outputs=10, seed=5).double()
    net.load_state_dict(made.state_dict(State(w, torch.zeros(()))))
    assert torch.equal(torch.cat([x.flatten() for x in net.parameters()]), w)


def test_frozen_parameters_are_not_part_of_w() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).double()
    net[0].requires_grad_(False)
    made = Supervised(net, torch.randn(5, 2).double(), torch.randn(5).double(), "mse")
    assert made.dim == 4
    assert made.point(made.start()).hvp(made.start()).shape == (4,)


def test_tied_weights_count_once() -> None:
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3, bias=False)).double()
    net[2].weight = net[0].weight
    x = torch.randn(6, 3).double()
    made = Supervised(net, x, x, "mse")
    assert made.dim == 9
    w, v = torch.randn(9).double(), torch.randn(9).double()
    eps = 1e-6
    slope = (made.point(w + eps * v).loss - made.point(w - eps * v).loss) / (2 * eps)
    assert math.isclose(slope.item(), (made.point(w).grad @ v).item(), rel_tol=1e-6)


def test_the_loss_of_a_text_is_the_mean_over_its_words() -> None:
    made = objective("transformer", physical_batch_size=5)
    point = made.point(made.start())
    logits, words = point.predictions, made.loss.targets
    assert logits.shape == (12, 6, 40)
    assert made.loss.terms == 6
    each = logits.logsumexp(2) - logits.gather(2, words[:, :, None])[:, :, 0]
    assert torch.allclose(point.loss, each.mean(), rtol=1e-12)
    assert math.isclose(
        point.accuracy.item(), (logits.argmax(2) == words).double().mean().item(), rel_tol=1e-6
    )
    w, v, eps = made.start(), torch.randn(made.dim, generator=torch.Generator().manual_seed(0)).double(), 1e-7
    slope = (made.point(w + eps * v).loss - made.point(w - eps * v).loss) / (2 * eps)
    assert math.isclose(slope.item(), (point.grad @ v).item(), rel_tol=1e-5)
    assert made.test is not None
    assert made.test.at(State(w, torch.zeros(()))).predictions.shape == (4, 6, 40)


def test_a_text_of_one_word_an_example_is_a_classification() -> None:
    net = nn.Linear(3, 5, bias=False).double()
    x, y = torch.randn(8, 3).double(), torch.arange(8) % 5
    plain = Supervised(net, x, y, "ce")
    placed = Supervised(nn.Sequential(net, nn.Unflatten(1, (1, 5))), x, y[:, None], "ce")
    w = plain.start()
    assert torch.equal(plain.point(w).loss, placed.point(w).loss)
    assert torch.equal(plain.point(w).accuracy, placed.point(w).accuracy)


def test_tied_weights_go_back_into_the_module_under_every_name() -> None:
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3), nn.Linear(3, 3, bias=False)).double()
    net[2].weight = net[0].weight
    x = torch.randn(6, 3).double()
    made = Supervised(net, x, x, "mse")
    state = State(made.start() + 1, torch.zeros(()))
    expected = net[0].weight.detach() + 1
    net.load_state_dict(made.state_dict(state))  # strict: running statistics are there too, as they were
    assert torch.equal(net[0].weight, expected)
    assert torch.equal(net[2].weight, expected)


@pytest.mark.parametrize("loss", ["mse", "ce"])
@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_of_any_integer_type(kind: torch.dtype, loss: str) -> None:
    x, y = torch.randn(6, 2).double(), torch.tensor([0, 1, 2, 1, 0, 1])
    net = nn.Linear(2, 3).double()
    made = Supervised(net, x, y.to(kind), loss)
    assert torch.equal(made.point(made.start()).loss, Supervised(net, x, y, loss).point(made.start()).loss)


@pytest.mark.parametrize(("targets", "loss"), [("flat", "mse"), ("labels", "mse"), ("labels", "ce")])
def test_a_batch_of_all_the_data_is_the_data(targets: str, loss: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9, 2, generator=generator, dtype=torch.float64)
    y = torch.randn(9, generator=generator) if targets == "flat" else torch.arange(9) % 3
    made = Supervised(nn.Linear(2, 1 if targets == "flat" else 3), x, y, loss)
    w = made.start()
    whole, batch = made.point(w), made.point(w, Batch(x, y))
    assert torch.equal(whole.loss, batch.loss)
    assert torch.equal(whole.grad, batch.grad)
    part = made.point(w, Batch(x[:4], y[:4]))
    assert torch.allclose(part.loss, Supervised(made.module, x[:4], y[:4], loss).point(w).loss)
    with pytest.raises(InputError, match="as many targets"):
        made.point(w, Batch(x, y[:3]))


def test_a_transformer_of_torchs_own_can_be_measured() -> None:
    """Its fused attention has no second derivative; the plain one has."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True), nn.Flatten(), nn.Linear(24, 2)
    ).double()
    made = Supervised(net, torch.randn(5, 3, 8).double(), torch.tensor([0, 1, 1, 0, 1]), "ce")
    w = made.start()
    v = torch.randn(made.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    eps = 1e-6
    slope = (made.point(w + eps * v).grad - made.point(w - eps * v).grad) / (2 * eps)
    assert relative(slope, made.point(w, need=Need.CURVATURE).hvp(v)) < 1e-6


@pytest.mark.parametrize("net", [nn.BatchNorm1d(4), BatchNorm(4)])
def test_batchnorm_is_known_even_where_it_does_not_show(net: nn.Module) -> None:
    head = nn.Linear(4, 1)
    nn.init.zeros_(head.weight)
    made = Supervised(nn.Sequential(net, head), torch.randn(8, 4), torch.randn(8), "mse")
    assert made.ghost_batches
    plain = Supervised(nn.Linear(4, 1), torch.full((8, 4), torch.nan), torch.randn(8), "mse")
    assert not plain.ghost_batches


class TwoOutputs(nn.Module):
    def __init__(self, kind: type) -> None:
        super().__init__()
        self.linear, self.kind = nn.Linear(4, 1), kind

    def forward(self, x: torch.Tensor) -> object:
        y = self.linear(x)
        return {"out": y} if self.kind is dict else (y, y)


@pytest.mark.parametrize("kind", [dict, tuple])
def test_refuses_a_network_with_more_than_one_output(kind: type) -> None:
    with pytest.raises(
        InputError, match=f"must return one tensor with a row an example.*got {kind.__name__}"
    ):
        Supervised(TwoOutputs(kind), torch.randn(6, 4), torch.randn(6), "mse")


def test_refuses_a_chunk_that_batchnorm_cannot_take() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    with pytest.raises(InputError, match="1 at a time"):
        Supervised(net, torch.randn(9, 4), torch.randn(9), "mse", physical_batch_size=4)


def test_takes_arrays_and_refuses_parameters_of_another_type() -> None:
    made = Supervised(nn.Linear(4, 1), np.ones((6, 4), dtype=np.float32), np.zeros(6), "mse")
    assert made.point(made.start()).loss.isfinite()
    with pytest.raises(InputError, match=r"expected parameters of type torch.float32, got torch.float64"):
        made.point(made.start().double())


def test_another_network_other_weights_or_other_data_describe_themselves_differently() -> None:
    torch.manual_seed(0)
    x, y, net = torch.randn(6, 4), torch.randn(6), nn.Sequential(nn.Linear(4, 1), nn.Tanh())
    relu = nn.Sequential(net[0], nn.ReLU())
    other = nn.Sequential(nn.Linear(4, 1), nn.Tanh())
    made = [(net, x, y), (relu, x, y), (other, x, y), (net, -x, y), (net, x, y + 1)]
    described = [str(Supervised(m, a, b, "mse").describe()) for m, a, b in made]
    assert len(set(described)) == 5
    assert described[0] == str(Supervised(net, x, y, "mse").describe())


def test_a_users_own_loss() -> None:
    def absolute(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs - targets).abs().sum(1)

    x, y = torch.randn(9, 2).double(), torch.randn(9, 1).double()
    made = Supervised(nn.Linear(2, 1).double(), x, y, absolute, physical_batch_size=4)
    w = made.start()
    assert torch.allclose(made.point(w).loss, (made.point(w).predictions - y).abs().mean())
    averaged = Supervised(nn.Linear(2, 1).double(), x, y, lambda f, t: (f - t).square().mean())
    with pytest.raises(InputError, match="one loss an example"):
        averaged.point(averaged.start()).loss  # noqa: B018


def test_mse_of_a_flat_target_does_not_broadcast() -> None:
    x, y = torch.randn(9, 2).double(), torch.randn(9).double()
    made = Supervised(nn.Linear(2, 1).double(), x, y, "mse")
    f = made.point(made.start()).predictions[:, 0]
    assert torch.allclose(made.point(made.start()).loss, 0.5 * (f - y).square().mean())


@pytest.mark.parametrize(
    ("outputs", "targets", "loss", "message"),
    [
        (1, torch.randn(6, 1), "ce", "use mse for a regression"),
        (2, torch.randn(6, 3), "mse", "outputs of shape"),
        (3, torch.tensor([0, 1, 2, 3, 0, 1]), "ce", "3 outputs"),
        (3, torch.tensor([0, 1, -1, 2, 0, 1]), "mse", "from -1"),
        (3, torch.zeros(6, 2, dtype=torch.long), "ce", r"\(n, T\) and \(T, classes\)"),
        (3, torch.zeros(6, 2, dtype=torch.long), "mse", "class labels"),
        (3, torch.zeros(6, 2, 2, dtype=torch.long), "ce", "class labels"),
        (3, torch.zeros(5, dtype=torch.long), "ce", "as many targets"),
        (3, torch.zeros(6, dtype=torch.long), "msee", "Did you mean 'mse'"),
    ],
)
def test_refuses_targets_that_do_not_fit(
    outputs: int, targets: torch.Tensor, loss: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Supervised(nn.Linear(4, outputs), torch.randn(6, 4), targets, loss)


def test_refuses_a_text_with_mse() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)))
    with pytest.raises(InputError, match=r"mse takes one class label.*\(6, 2\).*use ce"):
        Supervised(net, torch.randn(6, 4), torch.zeros(6, 2, dtype=torch.long), "mse")


def test_refuses_inputs_that_the_network_cannot_take() -> None:
    with pytest.raises(InputError, match=r"does not take inputs of shape \(5,\)"):
        Supervised(nn.Linear(4, 1), torch.randn(6, 5), torch.randn(6, 1), "mse")
    with pytest.raises(InputError, match="physical_batch_size"):
        Supervised(nn.Linear(4, 1), torch.randn(6, 4), torch.randn(6, 1), "mse", physical_batch_size=0)
    with pytest.raises(InputError, match="no parameter"):
        Supervised(nn.Tanh(), torch.randn(6, 4), torch.randn(6, 4), "mse")
    with pytest.raises(InputError, match="shape"):
        small().point(torch.zeros(3))


def test_quadratic_has_its_closed_form() -> None:
    A = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    made = Quadratic(A, torch.tensor([1.0, -1.0]))
    point = made.at(State(made.start(), torch.zeros(())))
    assert point.loss == 1.5
    assert point.grad.tolist() == [1, -2]
    assert point.hvp(torch.tensor([1.0, 0.0])).tolist() == [2, 1]
    many = made.at(State(torch.stack([made.start()] * 3), torch.zeros(3)))
    assert many.loss.shape == (3,)
    assert many.grad.shape == (3, 2)
