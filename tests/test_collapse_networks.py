"""Planted networks: counts by group, through the probe, the command and the figure."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_runs import FakeRun, Recorded
from torch import Tensor, nn

from limen.cli.main import main
from limen.collapse.fitting import fitting
from limen.collapse.report import fraction, parts, positions, report
from limen.data import Dataset
from limen.dynamics import sgd
from limen.errors import InputError
from limen.models import build
from limen.objectives import Quadratic, Supervised
from limen.objectives.training import Training
from limen.plots import curves
from limen.plots.collapse import layers as figure_of
from limen.probes import collapse as probe
from limen.run import Experiment
from limen.symmetry import NeuronGroup, neuron_groups
from limen.types import Batch, Record

NETWORKS = {
    "mlp": ("fc-tanh", (20,), {}),
    "cnn": ("cnn-tanh", (1, 8, 8), {}),
    "cnn-bn": ("cnn-bn-relu", (1, 8, 8), {}),
    "resnet": ("resnetlowres", (3, 32, 32), {"model_name": "resnet18"}),
    "vgg": ("vgg16gelu", (3, 32, 32), {}),
    "vgg-bn": ("vgg16bngelu", (3, 32, 32), {}),
}
SLOW = {"resnet", "vgg", "vgg-bn"}


def made(name: str) -> tuple[nn.Module, Tensor]:
    arch, shape, arguments = NETWORKS[name]
    return build(arch, input_shape=shape, outputs=10, arguments=arguments), torch.zeros(2, *shape)


def transformer() -> tuple[nn.Module, Tensor]:
    net = build("transformer", input_shape=(16,), outputs=50, arguments={"width": 16})
    return net, torch.zeros(2, 16, dtype=torch.int64)


def plant(net: nn.Module, group: NeuronGroup, copies: int, zeros: int) -> None:
    """Make neurons 1…copies equal to neuron 0, and the next ones zero; then shuffle and scale the layer."""
    weights = dict(net.named_parameters())
    order = torch.randperm(group.size, generator=torch.Generator().manual_seed(group.size))
    with torch.no_grad():
        for slot in group.slots:
            assert slot.dim >= 0
            # a spread of its own, lest scales that are all one make neurons alike
            rows = torch.randn(
                slot.slices(weights[slot.parameter]).shape,
                generator=torch.Generator().manual_seed(len(slot.role)),
            )
            rows[1 : copies + 1] = rows[0]
            rows[copies + 1 : copies + zeros + 1] = 0
            rows = (3.0 if slot.role in ("in", "bias") else 1 / 3) * rows[order]
            front = weights[slot.parameter].movedim(slot.dim, 0)
            front[slot.index] = rows.reshape(front[slot.index].shape)


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=[pytest.mark.slow] if x in SLOW else []) for x in NETWORKS]
)
@pytest.mark.parametrize("grouping", ["linkage", "greedy"])
def test_planted_neurons_are_counted_exactly(name, grouping):
    # one group at a time: neighbouring layers share weights
    net, example = made(name)
    groups = neuron_groups(net, example)
    assert groups
    for group in groups:
        copies, zeros = group.size // 4, group.size // 5
        plant(net, group, copies, zeros)
        found = report([group], dict(net.named_parameters()), grouping)[0].counts
        assert (found.vanished, found.identical) == (zeros, copies), group.name
        assert found.independent == group.size - copies - zeros


def test_planted_neurons_of_a_transformer():
    net, example = transformer()
    groups = [
        group
        for group in neuron_groups(net, example)
        if group.kind == "units" and all(slot.dim >= 0 for slot in group.slots)
    ]
    seen = 0
    for group in groups:
        if len({slot.parameter for slot in group.slots}) < len(group.slots):
            continue  # a stream that reads from and writes into itself
        copies, zeros = group.size // 4, group.size // 5
        plant(net, group, copies, zeros)
        (found,) = report([group], dict(net.named_parameters()))
        assert (found.counts.vanished, found.counts.identical) == (zeros, copies), group.name
        seen += 1
    assert seen


def test_a_report_sees_what_vectors_see():
    net, example = made("cnn-bn")
    weights = net.state_dict()
    for group in neuron_groups(net, example):
        assert torch.equal(torch.cat(parts(group, weights), dim=1), group.vectors(weights))


def test_positions_are_those_of_the_flat_vector():
    net, example = made("cnn")
    weights = dict(net.named_parameters())
    flat = torch.cat([x.detach().flatten() for x in weights.values()])
    for group in neuron_groups(net, example):
        assert torch.equal(flat[positions(group, weights)], group.vectors(weights).detach())


def test_the_fraction_is_of_all_neurons():
    net, example = made("mlp")
    groups = neuron_groups(net, example)
    plant(net, groups[0], 50, 0)
    size = sum(group.size for group in groups)
    assert fraction(report(groups, net.state_dict())) == pytest.approx((size - 50) / size)
    assert math.isnan(fraction([]))
    with pytest.raises(InputError, match="state_dict of the network"):
        report(groups, {})


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))


def test_the_probe_counts_in_a_users_own_network_on_full_data():
    net = small()
    with torch.no_grad():
        net[0].weight[3:], net[0].bias[3:], net[2].weight[:, 3:] = 0, 0, 0
    objective = Supervised(net, torch.randn(10, 4), torch.arange(10) % 2, "ce")
    events = list(Experiment(objective, sgd.make(lr=0.01), 5, [probe.make(freq=2)]).run())
    records = [event for event in events if isinstance(event, Record)]
    assert [record.step for record in records] == [0, 2, 4]
    for record in records:  # what is on its sign set stays there
        assert record.values["vanished"] == [3.0, 0.0]
        assert record.values["independent"] == [3.0, 5.0]
        assert record.values["independent_fraction"] == pytest.approx(8 / 11)
        assert len(record.values["effective_rank"]) == 2


def test_the_probe_counts_on_minibatches_and_leaves_out_what_is_not_finite():
    def stream(step: int) -> Batch:
        scale = 1.0 if step < 2 else math.inf
        return Batch(scale * torch.ones(3, 4), torch.zeros(3, dtype=torch.int64))

    objective = Training(small(), "ce")
    events = Experiment(
        objective, sgd.make(lr=0.1), 5, [probe.make(freq=1, grouping="greedy")], stream=stream
    )
    records = [event for event in events.run() if isinstance(event, Record)]
    assert [record.step for record in records][:2] == [0, 1]
    assert all(math.isfinite(record.values["independent_fraction"]) for record in records)


def test_the_probe_refuses_what_has_no_neurons():
    with pytest.raises(InputError, match="Quadratic"):
        probe.make().init(Quadratic(torch.eye(2), torch.zeros(2)))
    with pytest.raises(InputError, match="grouping"):
        probe.make(grouping="both")
    line = Supervised(nn.Linear(4, 2), torch.randn(10, 4), torch.arange(10) % 2, "ce")
    with pytest.raises(InputError, match="no hidden neurons"):
        list(Experiment(line, sgd.make(lr=0.1), 2, [probe.make()]).run())


def test_a_network_is_found_that_fits_the_weights():
    weights = build("cnn-bn-tanh", input_shape=(1, 28, 28), outputs=7).state_dict()
    module, example = fitting("cnn-bn-tanh", weights)
    assert (example.shape, module(example).shape) == ((2, 1, 28, 28), (2, 7))
    assert all(torch.equal(x, weights[name]) for name, x in module.state_dict().items())
    module, example = fitting("fc-tanh", build("fc-tanh", input_shape=(13,), outputs=3).state_dict())
    assert example.shape == (2, 13)
    with pytest.raises(InputError, match=r"--arch.*--input_shape"):
        fitting("cnn-tanh", weights)
    with pytest.raises(InputError, match="does not fit"):
        fitting("cnn-bn-tanh", weights, input_shape=(1, 8, 8))


@pytest.fixture
def checkpoint(tmp_path):
    """A published checkpoint of a CNN with 8 equal channels and 4 of zeros."""
    net, example = made("cnn")
    plant(net, neuron_groups(net, example)[0], 8, 4)
    path = tmp_path / "state_20ba.pt"
    torch.save({"state": {"model": {f"module.{name}": x for name, x in net.state_dict().items()}}}, path)
    return path


def test_the_command_reads_a_published_checkpoint(checkpoint, tmp_path, capsys):
    words = ["collapse", str(checkpoint), "--arch", "cnn-tanh", "--json", str(tmp_path / "a.json")]
    assert main([*words, "--output", str(tmp_path / "a.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:6] == ["0", "32", "4", "8", "20", "0.625"]
    assert lines[3] == "independent: 52 of 64 = 0.812"
    told = json.loads((tmp_path / "a.json").read_text())
    first = told["networks"][0]["layers"][0]
    assert (first["vanished"], first["identical"], first["independent"]) == (4, 8, 20)
    assert first["clusters"].count(-1) == 4
    assert first["sign_set"]["invariant"]
    assert (tmp_path / "a.png").stat().st_size > 5000
    assert main([*words, "--greedy"]) == 0
    assert json.loads((tmp_path / "a.json").read_text())["grouping"] == "greedy"


def test_several_networks_are_replicates(checkpoint, capsys):
    assert main(["collapse", str(checkpoint), str(checkpoint), "--arch", "cnn-tanh"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:8] == ["0", "32", "4", "±", "0", "8", "±", "0"]
    assert lines[-1].endswith("independent: 52 of 64 = 0.812")


def test_the_command_reads_a_run(tmp_path, capsys):
    words = ["digits", "cnn-tanh", "mse", "--lr", "0.05", "--max_steps", "2", "--data.n", "50"]
    for more in ([], ["--save_model", "True", "--seed", "1"]):
        assert main(["gd", *words, "--test_freq", "-1", "--results", str(tmp_path), "--quiet", *more]) == 0
    folders = sorted(str(path.parent) for path in tmp_path.rglob("run.json"))
    capsys.readouterr()
    assert main(["collapse", *folders]) == 0
    assert capsys.readouterr().out.count("independent: 64 of 64 = 1.000") == 2


def odd_images(*, n: int = 9) -> Dataset:
    """Return images of a size that nobody would guess."""
    x = torch.randn(n, 2, 12, 20, generator=torch.Generator().manual_seed(0))
    return Dataset(x, torch.arange(n) % 3, x, torch.arange(n) % 3, classes=3)


@pytest.mark.parametrize("saved", [[], ["--save_model", "True"]])
@pytest.mark.parametrize(
    ("dataset", "arch", "neurons", "more"),
    [
        (f"{__name__}:odd_images", "cnn-tanh", 64, []),
        ("english", "transformer", 164, ["--data.n", "2", "--model.width", "8", "--model.feedforward", "60"]),
    ],
)
def test_a_run_says_what_its_network_takes(saved, dataset, arch, neurons, more, tmp_path, capsys):
    words = [dataset, arch, "ce", "--lr", "0.01", "--max_steps", "1", "--test_freq", "-1", *more, *saved]
    assert main(["gd", *words, "--results", str(tmp_path), "--quiet"]) == 0
    (folder,) = (path.parent for path in tmp_path.rglob("run.json"))
    capsys.readouterr()
    assert main(["collapse", str(folder)]) == 0
    assert f" of {neurons} = " in capsys.readouterr().out
    if saved:
        assert main(["collapse", str(folder / "snapshot_final")]) == 0
        assert f" of {neurons} = " in capsys.readouterr().out


def test_training_that_stopped_early_is_rebuilt_from_its_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = {
        "model": {"cnn-bn-relu": {"loss_name": "ce", "width": 4}},
        "train_data": {"digits": {"n": 40}},
        "eval_data": {"digits": {"n": 40}},
        "train_batch_size": 8,
        "max_duration": "3ba",
        "optimizer": {"sgd": {"lr": 0.05}},
    }
    Path("c.yaml").write_text(json.dumps(config))
    assert main(["train", "-f", "c.yaml", "--quiet"]) == 0
    (folder,) = (path.parent for path in tmp_path.rglob("run.json"))
    capsys.readouterr()
    assert main(["collapse", str(folder), "--json", "final.json"]) == 0
    (folder / "model_final.pt").unlink()  # as if it had been interrupted
    assert main(["collapse", str(folder), "--json", "rebuilt.json"]) == 0
    final, rebuilt = (json.loads(Path(name).read_text()) for name in ("final.json", "rebuilt.json"))
    assert rebuilt["networks"] == final["networks"]
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    capsys.readouterr()
    assert main(["collapse", str(folder)]) == 2
    assert "run limen train anew and add callbacks: {checkpoint_saver" in capsys.readouterr().err


def test_the_command_says_what_it_lacks(checkpoint, tmp_path, capsys):
    assert main(["collapse", str(checkpoint)]) == 2
    assert "--arch" in capsys.readouterr().err
    assert main(["collapse", str(checkpoint), "--arch", "cnn-tanj"]) == 2
    assert "cnn-tanh" in capsys.readouterr().err
    assert main(["collapse", str(tmp_path)]) == 2
    assert "run.json" in capsys.readouterr().err
    assert main(["collapse", str(tmp_path / "none.pt")]) == 2
    assert "no such" in capsys.readouterr().err
    assert main(["collapse", str(checkpoint), "--arch", "cnn-tanh", "--input_shape", "1,eight"]) == 2
    assert "3,32,32" in capsys.readouterr().err


def test_the_figure_is_mean_and_spread_over_replicates():
    fractions = [{"conv1": 1.0, "conv2": 0.5}, {"conv1": 0.8, "conv2": 0.7}]
    figure = figure_of({"lr 0.1": fractions, "lr 0.2": fractions[:1]})
    panel = figure.axes[0]
    assert panel.containers[0].lines[0].get_ydata() == pytest.approx([0.9, 0.6])
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["conv1", "conv2"]
    with pytest.raises(InputError, match="different layers"):
        figure_of({"": [{"a": 1.0}, {"b": 1.0}]})
    with pytest.raises(InputError, match="no layer"):
        figure_of({"": []})


def test_the_figure_of_a_run_has_the_neurons_beside_loss_and_accuracy():
    # the rate drops at step 50: what limen plot shows of it
    steps = np.arange(100)
    records = {
        "train_loss": np.where(steps < 50, 1.0, 0.3),
        "test_acc": np.where(steps < 50, 0.6, 0.9),
        "independent_fraction": 1 - 0.5 * steps / 99,
    }
    runs = [
        FakeRun(
            {name: Recorded(steps, 0.1 * steps, values) for name, values in records.items()}, {"seed": seed}
        )
        for seed in (0, 1)
    ]
    figure = curves(runs)
    labels = [panel.get_ylabel() for panel in figure.axes]
    assert labels == ["loss", "accuracy", "independent neurons"]
    lines = figure.axes[2].lines
    assert [line.get_ydata()[-1] for line in lines] == [0.5, 0.5]
    assert figure.axes[2].get_ylim() == (0, 1.05)
