"""Training mode against PyTorch's own loop in float64; running statistics, dropout, evaluation, processes."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_processes
from torch import nn
from torch.nn import functional as F

from limen import Experiment, Quadratic, data, models
from limen.dynamics.gd import GD
from limen.dynamics.polyak import Polyak
from limen.dynamics.schedules import MultiStepWithWarmup
from limen.dynamics.sgd import SGD
from limen.errors import InputError
from limen.models._norm import BatchNorm, RunningNorm
from limen.objectives.ranks import Ranks
from limen.objectives.training import Training
from limen.probes import Test, Train
from limen.streams import Minibatches
from limen.types import Batch, Mark, Need, Objective, Record, Schedule, State


def conv_net(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.GELU(), nn.Flatten(), nn.Linear(24, 5),
        ).double()  # fmt: skip


def photographs(n=50):
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 8, 8), generator=draw, dtype=torch.uint8)
    return images, torch.randint(5, (n,), generator=draw)


def held_out(n=23):
    draw = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, 8, 8, generator=draw, dtype=torch.float64), torch.randint(
        5, (n,), generator=draw
    )


def a_stream(**changes):
    images, labels = photographs()
    given = {"crop": 1, "flip": True, "label_noise": 0.2, "classes": 5, "dtype": torch.float64, "seed": 3}
    return Minibatches(images, labels, 16, **{**given, **changes})


def last_state(events):
    return [event for event in events if isinstance(event, Mark)][-1].state


SCHEDULE = MultiStepWithWarmup(4, (12,))


@pytest.mark.parametrize("loss", ["soft_cross_entropy", "ce", "mse"])
def test_is_torch_sgd_in_training_mode_step_for_step(loss):
    net, stream = conv_net(), a_stream()
    objective = Training(net, loss, evaluation=held_out(), eval_batch_size=10)
    rule = SGD(0.1, SCHEDULE, momentum=0.9, weight_decay=5e-4)
    experiment = Experiment(objective, rule, 20, [Train(), Test(Schedule(5))], stream=stream)
    theirs = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    losses, tests = {}, {}

    def criterion(out, targets, mean_of):
        if loss == "mse":
            return 0.5 * (out - targets).square().sum() / mean_of
        return -(targets * F.log_softmax(out, 1)).sum() / mean_of

    for event in experiment.run():
        if isinstance(event, Record) and event.probe == "train":
            losses[event.step] = event.values
        if isinstance(event, Record) and event.probe == "test":
            tests[event.step] = event.values
        if not isinstance(event, Mark):
            continue
        k = event.step
        # before step k: weights and running statistics are theirs
        ours = objective.state_dict(event.state)
        assert list(ours) == list(net.state_dict())
        for name, x in net.state_dict().items():
            torch.testing.assert_close(ours[name], x, rtol=1e-12, atol=1e-12)
        if k % 5 == 0 and k < 20:
            with torch.no_grad():
                x, y = held_out()
                out = net.eval()(x)
                expected_test = criterion(out, F.one_hot(y, 5).double(), len(x)).item()
                expected_hits = (out.argmax(1) == y).double().mean().item()
            expected = {"test_loss": pytest.approx(expected_test, rel=1e-12), "test_acc": expected_hits}
            tests[k, "expected"] = expected
        if k == 20:
            break
        net.train()
        theirs.param_groups[0]["lr"] = 0.1 * SCHEDULE(k)
        batch = stream(k)
        out = net(batch.inputs)
        value = criterion(out, batch.targets, 16)
        hits = (out.argmax(1) == batch.targets.argmax(1)).double().mean().item()
        losses[k, "expected"] = {"train_loss": pytest.approx(value.item(), rel=1e-12), "train_acc": hits}
        theirs.zero_grad()
        value.backward()
        theirs.step()
    assert [losses[k] for k in range(20)] == [losses[k, "expected"] for k in range(20)]
    assert [tests[k] for k in range(0, 20, 5)] == [tests[k, "expected"] for k in range(0, 20, 5)]


def test_no_measurement_moves_a_buffer_or_the_run():
    def experiment(probes):
        objective = Training(conv_net(), "ce", evaluation=held_out())
        return Experiment(objective, SGD(0.1, momentum=0.9), 6, probes, stream=a_stream())

    plain = last_state(experiment([]).run())
    watched = experiment([Train(), Test()])
    objective, states = watched.objective, []
    for event in watched.run():
        if isinstance(event, Mark):
            states.append(event.state)
            before = {name: x.clone() for name, x in event.state.buffers.items()}
            batch = a_stream()(40)
            point = objective.at(event.state, batch, Need.GRAD | Need.CURVATURE)
            point.hvp(torch.ones(objective.dim, dtype=torch.float64))
            objective.test.at(event.state, need=Need.GRAD).curvature().matvec(point.grad)
            assert all(torch.equal(before[name], x) for name, x in event.state.buffers.items())
            assert not torch.equal(point.buffers["1.running_mean"], before["1.running_mean"])
    assert torch.equal(plain.w, states[-1].w)
    assert all(torch.equal(x, states[-1].buffers[name]) for name, x in plain.buffers.items())


def test_the_module_given_is_never_touched():
    net = conv_net().eval()
    kept = {name: x.clone() for name, x in net.state_dict().items()}
    objective = Training(net, "ce", evaluation=held_out())
    last_state(Experiment(objective, SGD(0.1), 3, [Test()], stream=a_stream()).run())
    assert all(torch.equal(kept[name], x) for name, x in net.state_dict().items())
    assert not any(part.training for part in net.modules())


@pytest.mark.parametrize("rule", [GD(0.1), Polyak(0.1, 0.9)])
def test_the_rules_of_descent_carry_buffers_too(rule):
    objective = Training(conv_net(), "ce")
    end = last_state(Experiment(objective, rule, 4, stream=a_stream()).run())
    assert end.buffers["1.num_batches_tracked"] == 4
    assert objective.buffers()["1.num_batches_tracked"] == 0


def test_a_run_taken_up_again_is_the_same_bit_for_bit():
    def experiment():
        objective = Training(conv_net(), "ce", evaluation=held_out())
        return Experiment(objective, SGD(0.1, SCHEDULE, momentum=0.9), 15, stream=a_stream())

    marks = [event for event in experiment().run() if isinstance(event, Mark)]
    half = marks[7]
    again = Mark(half.step, State.from_dict(half.state.to_dict()), half.memory)
    end = last_state(experiment().run(again))
    assert torch.equal(end.w, marks[-1].state.w)
    assert all(torch.equal(x, marks[-1].state.buffers[name]) for name, x in end.buffers.items())


@pytest.mark.parametrize("order", [Need.GRAD, Need.LOSS, Need.GRAD | Need.CURVATURE, Need.NOTHING])
def test_what_was_declared_changes_no_value(order):
    objective = Training(conv_net(), "ce", evaluation=held_out(), eval_batch_size=7)
    state, batch = State(objective.start(), torch.zeros(())), a_stream()(0)
    for at in (
        lambda need: objective.at(state, batch, need),
        lambda need: objective.test.at(state, need=need),
    ):
        base, point = at(Need.GRAD), at(order)
        torch.testing.assert_close(point.loss, base.loss, rtol=1e-14, atol=0)
        torch.testing.assert_close(point.grad, base.grad, rtol=1e-12, atol=1e-15)
        assert torch.equal(point.predictions, at(Need.PREDICTIONS).predictions)
        assert point.accuracy == base.accuracy


@pytest.mark.parametrize("test", [False, True])
def test_hessian_products_and_third_derivatives_agree_with_differences(test):
    objective = Training(conv_net(), "ce", evaluation=held_out(), eval_batch_size=9, label_smoothing=0.1)
    w = objective.start()
    buffers = objective.at(State(w, torch.zeros(())), a_stream()(1)).buffers
    v = torch.randn(len(w), generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def at(w):
        state = State(w, torch.zeros(()), buffers=buffers)
        return (
            objective.test.at(state, need=Need.GRAD)
            if test
            else objective.at(state, a_stream()(0), Need.GRAD)
        )

    h = 1e-5
    expected = (at(w + h * v).grad - at(w - h * v).grad) / (2 * h)
    found = at(w).hvp(v)
    assert (found - expected).norm() < 1e-6 * expected.norm()
    u = at(w).grad
    slope = (at(w + h * v).hvp(v) - at(w - h * v).hvp(v)) / (2 * h)
    assert at(w).d3(v, v) @ v == pytest.approx((slope @ v).item(), rel=1e-5)
    torch.testing.assert_close(
        at(w).curvature().matmat(torch.stack([v, u]))[0], found, rtol=1e-12, atol=1e-15
    )


def test_the_hessian_over_the_first_examples():
    objective = Training(nn.Linear(2, 3).double(), "ce")
    x = torch.randn(10, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, state = torch.arange(10) % 3, State(objective.start(), torch.zeros(()))
    part = objective.at(state, Batch(x, y)).curvature(4)
    whole = objective.at(state, Batch(x[:4], y[:4])).curvature()
    V = torch.eye(objective.dim, dtype=torch.float64)
    torch.testing.assert_close(part.matmat(V), whole.matmat(V))


class Noisy(nn.Module):
    """Draws in its forward pass, as dropout does."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return F.dropout(self.linear(x), 0.5, self.training) + 0.1 * torch.rand(3, dtype=x.dtype)


def test_what_the_network_draws_is_a_function_of_the_batch():
    torch.manual_seed(0)
    objective = Training(Noisy().double(), "ce")
    state = State(objective.start(), torch.zeros(()))
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 3
    before = torch.random.get_rng_state()
    one, again, other = (objective.at(state, Batch(x, y, seed), Need.GRAD) for seed in (5, 5, 6))
    assert torch.equal(one.grad, again.grad)
    assert torch.equal(one.loss, again.loss)
    assert not torch.equal(one.grad, other.grad)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_dropout_is_off_in_evaluation():
    net = models.build("vgg16geludo", input_shape=(3, 32, 32), outputs=3, arguments={"hidden": 8})
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    objective = Training(net, "ce", evaluation=(x, torch.tensor([0, 1, 2, 0])))
    state = State(objective.start(), torch.zeros(()))
    with torch.no_grad():
        torch.testing.assert_close(objective.test.at(state).predictions, net(x))
        losses = {
            objective.at(state, Batch(x, torch.tensor([0, 1, 2, 0]), seed)).loss.item() for seed in range(4)
        }
    assert len(losses) == 4


def test_a_limen_network_gets_running_statistics():
    net = models.build("cnn-bn-elu", input_shape=(1, 8, 8), outputs=10)
    made = data.load("digits")
    x, y = made.inputs.float(), made.targets
    objective = Training(net, "ce", evaluation=(x, y))
    theirs = nn.Sequential(
        *(nn.BatchNorm2d(part.num_features) if isinstance(part, BatchNorm) else part for part in net)
    )
    for a, b in zip(net, theirs, strict=True):
        if isinstance(a, BatchNorm):
            b.weight, b.bias = a.weight, a.bias
    state = State(objective.start(), torch.zeros(()))
    point = objective.at(state, Batch(x[:50], y[:50]))
    torch.testing.assert_close(point.predictions, theirs.train()(x[:50]).detach())
    after = state.replace(buffers=point.buffers)
    torch.testing.assert_close(objective.test.at(after).predictions, theirs.eval()(x).detach())
    assert list(objective.state_dict(after)) == list(theirs.state_dict())


def test_a_running_norm_takes_any_rank():
    x = torch.randn(5, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = RunningNorm.of(BatchNorm(3)), nn.BatchNorm2d(3)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert torch.equal(ours(x[:, :, 0, 0]), nn.BatchNorm1d(3)(x[:, :, 0, 0]))


def test_label_smoothing_mixes_targets_with_the_uniform_ones():
    net, batch = conv_net(), a_stream()(0)
    smooth = Training(net, "ce", label_smoothing=0.2, evaluation=held_out())
    state = State(smooth.start(), torch.zeros(()))
    out = smooth.at(state, batch).predictions
    expected = -((0.8 * batch.targets + 0.04) * F.log_softmax(out, 1)).sum() / 16
    assert smooth.at(state, batch).loss.item() == pytest.approx(expected.item(), rel=1e-13)
    by_label = Batch(batch.inputs, batch.targets.argmax(1))
    assert smooth.at(state, by_label).loss.item() == pytest.approx(expected.item(), rel=1e-13)
    plain = Training(net, "ce", evaluation=held_out()).test.at(state)
    assert torch.equal(smooth.test.at(state).loss, plain.loss), "in training only"


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_labels_and_one_hot_targets_are_one(loss):
    objective, (x, y) = Training(conv_net(), loss), held_out()
    state = State(objective.start(), torch.zeros(()))
    labels, hot = (objective.at(state, Batch(x, t), Need.GRAD) for t in (y, F.one_hot(y, 5).double()))
    torch.testing.assert_close(labels.grad, hot.grad, rtol=1e-13, atol=1e-16)
    assert labels.accuracy == hot.accuracy


def test_an_own_loss_and_a_regression():
    def hinge(outputs, targets):
        return (1 - outputs[:, 0] * (2.0 * targets - 1)).relu()

    x, y = torch.randn(12, 3, dtype=torch.float64), torch.arange(12) % 2
    objective = Training(nn.Linear(3, 1).double(), hinge)
    state = State(objective.start(), torch.zeros(()))
    point = objective.at(state, Batch(x, y))
    assert point.loss.item() == pytest.approx(hinge(point.predictions, y).mean().item(), rel=1e-14)
    line = Training(nn.Linear(3, 1).double(), "mse", evaluation=(x, x[:, :1]))
    value = line.at(State(line.start(), torch.zeros(())), Batch(x, x[:, 0]))
    assert value.loss.item() == pytest.approx(
        0.5 * (value.predictions[:, 0] - x[:, 0]).square().mean().item(), rel=1e-14
    )
    assert math.isnan(value.accuracy)
    assert math.isnan(line.test.at(State(line.start(), torch.zeros(()))).accuracy)


def test_frozen_and_tied_parameters():
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False), nn.Linear(3, 2)).double()
    net[1].weight = net[0].weight
    net[2].bias.requires_grad_(False)
    objective = Training(net, "ce")
    assert objective.dim == 9 + 6
    state = State(objective.start() + 1, torch.zeros(()))
    saved = objective.state_dict(state)
    assert torch.equal(saved["0.weight"], net[0].weight + 1)
    assert torch.equal(saved["1.weight"], saved["0.weight"])
    assert torch.equal(saved["2.bias"], net[2].bias)


def test_lower_precision_keeps_weights_and_gradients_and_stays_near():
    x, y = held_out()
    net = conv_net().float()
    batch = Batch(x.float(), y)
    for precision in ("bf16", "amp"):
        low = Training(net, "ce", evaluation=(x.float(), y), precision=precision)
        full = Training(net, "ce", evaluation=(x.float(), y))
        state = State(full.start(), torch.zeros(()))
        a, b = (objective.at(state, batch, Need.GRAD) for objective in (low, full))
        assert a.grad.dtype == a.loss.dtype == a.predictions.dtype == torch.float32
        assert all(value.dtype == b.buffers[name].dtype for name, value in a.buffers.items())
        assert 0 < (a.grad - b.grad).norm() < 0.05 * b.grad.norm()
        assert low.test.at(state).loss.item() == pytest.approx(full.test.at(state).loss.item(), rel=0.02)


def test_channels_last_changes_the_layout_and_not_the_values():
    seen = []

    class Watch(nn.Conv2d):
        def forward(self, x):
            seen.append(x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous())
            return super().forward(x)

    torch.manual_seed(0)
    net = nn.Sequential(
        Watch(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    ).double()
    x, y = held_out()
    points = []
    for last in (False, True):
        objective = Training(net, "ce", channels_last=last)
        point = objective.at(State(objective.start(), torch.zeros(())), Batch(x, y), Need.GRAD)
        points.append(objective.unflatten(point.grad))
        for name, grad in points[-1].items():
            torch.testing.assert_close(grad, points[0][name], rtol=1e-11, atol=1e-14)
    assert seen == [False, True]


def test_words_are_trained_on():
    net = models.build("transformer", input_shape=(7,), outputs=11, arguments={"width": 8})
    words = torch.arange(70).view(10, 7) % 11
    targets = (words + 1) % 11
    objective = Training(net, "ce", evaluation=(words, targets))
    stream = Minibatches(words, targets, 5)
    rule = SGD(0.1, momentum=0.9)
    state = rule.init(objective, objective.start())
    losses = []
    for k in range(60):
        point = objective.at(state, stream(k), Need.GRAD)
        losses.append(point.loss.item())
        state, _ = rule.step(point, state)
    assert losses[-1] < 0.3 * losses[0]
    assert objective.test.at(state).accuracy > 0.5


WORDS = torch.zeros(6, 4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Training(conv_net(), "ce").at(State(conv_w(), torch.zeros(()))), "sees minibatches"),
        (lambda: at(Batch(held_out()[0], held_out()[1][:5])), "as many targets as inputs"),
        (lambda: at(Batch(held_out()[0][:0], held_out()[1][:0])), "at least 1"),
        (lambda: Training(conv_net(), "ces"), r"unknown loss 'ces'\. Did you mean 'ce'"),
        (lambda: Training(conv_net(), "ce", label_smoothing=2.0), "label_smoothing"),
        (
            lambda: Training(nn.Embedding(7, 7), "ce", evaluation=(WORDS, WORDS), label_smoothing=0.1),
            r"one class an example \(n,\), got .* \(6, 4\)",
        ),
        (
            lambda: Training(
                nn.Linear(3, 1), "mse", evaluation=(torch.ones(6, 3), torch.ones(6)), label_smoothing=0.1
            ),
            r"one class an example \(n,\), got .*float32",
        ),
        (lambda: Training(conv_net(), "ce", precision="fp8"), "precision must be fp32, bf16 or amp"),
        (lambda: Training(conv_net(), "ce", eval_batch_size=0), "eval_batch_size"),
        (lambda: Training(conv_net(), "ce", evaluation=(held_out()[0], held_out()[1] + 5)), "5 outputs"),
        (
            lambda: Training(conv_net(), "ce", evaluation=(torch.zeros(3, 7), torch.zeros(3).long())),
            "does not take",
        ),
        (lambda: Training(nn.Flatten(), "ce"), "no parameter"),
        (
            lambda: at(Batch(held_out()[0], held_out()[1] + 3)).loss,
            "labels run from 3 to 7, but .* 5 outputs",
        ),
        (
            lambda: at(Batch(held_out()[0], torch.ones(23, 4).double())).loss,
            r"shape \(23, 4\), but outputs \(23, 5\)",
        ),
        (lambda: at(Batch(held_out()[0], torch.ones(23, 1).double())).loss, r"shape \(23, 1\)"),
        (lambda: at(Batch(*held_out()), w=conv_w().float()), "float32"),
        (lambda: at(Batch(*held_out()), w=conv_w()[1:]), "expected parameters of shape"),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def conv_w():
    return Training(conv_net(), "ce").start()


def at(batch, w=None):
    objective = Training(conv_net(), "ce")
    return objective.at(State(objective.start() if w is None else w, torch.zeros(())), batch, Need.GRAD)


def test_other_objectives_have_no_buffers():
    bowl: Objective = Quadratic(torch.eye(2), torch.ones(2))
    assert bowl.buffers() == {}
    assert bowl.at(State(bowl.start(), torch.zeros(()))).buffers == {}


def test_what_it_tells_of_itself_tells_networks_apart():
    given = {"evaluation": held_out()}
    told = Training(conv_net(), "ce", **given).describe()
    assert told == Training(conv_net(), "ce", **given).describe()
    changed = conv_net()
    changed[1].running_mean += 1
    x, y = held_out()
    for other in (
        Training(conv_net(1), "ce", **given),
        Training(changed, "ce", **given),
        Training(conv_net(), "mse", **given),
        Training(conv_net(), "ce", evaluation=(x + 1, y)),
        Training(conv_net(), "ce", label_smoothing=0.1, **given),
    ):
        assert other.describe() != told


def test_shares_cover_a_batch_once():
    for n, world in itertools.product((1, 5, 16), (1, 2, 3)):
        shares = [range(n)[Ranks(rank, world).share(n)] for rank in range(world)]
        assert list(itertools.chain(*shares)) == list(range(n))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_two_processes_are_as_one(tmp_path):
    script = Path(two_processes.__file__)
    running = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path), str(rank), "2"], stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    complaints = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], complaints
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    alone = two_processes.train()
    for name, expected in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], expected, rtol=1e-11, atol=1e-12, msg=name)


def test_kernels_may_lie_with_their_channels_last():
    net, (x, y) = conv_net(), held_out()
    plain, last = Training(net, "ce"), Training(net, "ce", channels_last=True)
    assert not torch.equal(plain.start(), last.start())
    for name, kernel in last.unflatten(last.start()).items():
        assert torch.equal(kernel, plain.unflatten(plain.start())[name])
    assert last.unflatten(last.start())["4.weight"].is_contiguous(memory_format=torch.channels_last)
    ends = []
    for objective in (plain, last):
        stream = Minibatches(x, y, 8, dtype=torch.float64)
        state = last_state(Experiment(objective, SGD(0.1, momentum=0.9), 5, stream=stream).run())
        ends.append(objective.state_dict(state))
        assert all(value.is_contiguous() for value in ends[-1].values())
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-10, atol=1e-12)
