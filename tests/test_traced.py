"""A traced pass has the bits of the eager one, and is used only where nothing can go unseen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limen import GD, Experiment, Need, Supervised, data, models
from limen.objectives import traced
from limen.types import Mark


def objective(net: str, loss: str, dtype: torch.dtype = torch.float32) -> Supervised:
    ids = {"regression": "chebyshev-4-20"}
    made = data.load(ids.get(net, "digits"), {"n": 50} if net not in ids else {})
    width = {} if net == "regression" else {"width": 6}
    module = models.build(net, input_shape=made.input_shape, outputs=made.outputs, arguments=width)
    return Supervised(module, made.inputs, made.targets, loss, dtype=dtype)


@pytest.mark.parametrize(
    ("net", "loss"),
    [("regression", "mse"), ("fc-tanh", "ce"), ("fc-relu", "mse"), ("fc-softplus", "ce"), ("cnn-bn-relu", "ce"),
     ("cnn-avgpool-elu", "mse"), ("cnn-tanh", "ce")],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bits_are_those_of_the_eager_pass(net: str, loss: str, dtype: torch.dtype) -> None:
    made = objective(net, loss, dtype)
    w = made.start()
    fast = traced.trace(made._eager_pass, w)
    assert fast is not None
    for step in range(3):
        w = w + 0.1 * step
        point = made.point(w, need=Need.GRAD)
        with torch.no_grad():
            found, hits, grad = fast(w)
        assert torch.equal(found, point.loss)
        assert torch.equal(grad, point.grad)
        assert torch.equal(hits / made.n, point.accuracy) or point.accuracy.isnan()


def test_a_run_does_not_show_where_tracing_began(monkeypatch: pytest.MonkeyPatch) -> None:
    def final(patience: int) -> torch.Tensor:
        monkeypatch.setattr("limen.objectives.supervised.PATIENCE", patience)
        made = objective("regression", "mse")
        marks = [e for e in Experiment(made, GD(0.2), 60).run() if isinstance(e, Mark)]
        assert (made._traced is not None) == (patience < 60)
        return marks[-1].state.w

    assert torch.equal(final(5), final(1000))
    assert torch.equal(final(17), final(1000))


class Branching(nn.Module):
    """What a trace would freeze: a decision on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        return y if float(y.detach().sum()) > 0 else -y


def test_a_users_own_code_stays_eager() -> None:
    assert not traced.traceable(Branching())
    assert not traced.traceable(nn.Sequential(nn.Linear(2, 2), Branching()))
    assert traced.traceable(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))
    made = Supervised(Branching(), torch.randn(5, 2), torch.randn(5, 1), "mse")
    assert traced.trace(made._eager_pass, made.start()) is None
    for _ in range(traced.PATIENCE + 5):
        made.point(made.start(), need=Need.GRAD).grad  # noqa: B018
    assert made._traced is None


def test_a_users_own_loss_stays_eager() -> None:
    weight = 1.0

    def weighted(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return weight * (outputs - targets).square().sum(1)

    made = Supervised(nn.Linear(2, 1), torch.randn(5, 2), torch.randn(5, 1), weighted)

    def loss() -> torch.Tensor:
        return made.point(made.start(), need=Need.GRAD).loss

    before = [loss() for _ in range(traced.PATIENCE + 5)]
    weight = 2.0
    assert torch.equal(loss(), 2 * before[-1])


def test_what_a_pass_gave_is_not_moved_by_the_next() -> None:
    made = Supervised(nn.Linear(3, 1, bias=False), torch.randn(5, 3), torch.randn(5, 1), "mse")
    w = made.start()
    fast = traced.trace(made._eager_pass, w)
    assert fast is not None
    found = fast(w)
    kept = [x.clone() for x in found]
    fast(w + 1)
    assert all(torch.equal(a, b) or a.isnan().all() for a, b in zip(found, kept, strict=True))
    assert torch.equal(w, made.start())


def test_large_or_chunked_objectives_stay_eager() -> None:
    for settings in ({"physical_batch_size": 20}, {}):
        made = objective("fc-tanh", "mse")
        chunked = Supervised(made.module, made.inputs, made.loss.targets, "mse", **settings)
        for _ in range(traced.PATIENCE + 1):
            chunked.fast_pass(chunked.start())
        assert (chunked._traced is None) == bool(settings)
