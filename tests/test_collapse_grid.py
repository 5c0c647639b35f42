"""The grid of small networks: its training against plain torch, its statistics against definitions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torch.nn import functional as F

from limen.analysis.ranks import spearman
from limen.collapse.side_by_side import Setting, Together, layer_parts, network
from limen.dynamics import sgd
from limen.errors import InputError
from limen.objectives.training import Training
from limen.plots.collapse_grid import collapse_grid
from limen.recipes import collapse
from limen.streams import Minibatches
from limen.symmetry import neuron_groups

SETTINGS = [Setting(0.3, 0.0, 4, 0), Setting(0.1, 0.5, 4, 1), Setting(0.2, 1.0, 4, 1)]


def data(n: int = 23) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(n, 1, 8, 8, generator=draw), torch.randint(2, (n,), generator=draw)


def test_networks_side_by_side_are_those_of_torch_optim():
    images, labels = data()
    together = Together(SETTINGS, images, labels, weight_decay=0.01)
    nets = [network(setting.seed) for setting in SETTINGS]
    rules = [
        torch.optim.SGD(net.parameters(), lr=setting.lr, weight_decay=0.01)
        for net, setting in zip(nets, SETTINGS, strict=True)
    ]
    for step in range(12):
        rows, noisy = together.batch(step)
        together.step(step)
        for index, (net, rule) in enumerate(zip(nets, rules, strict=True)):
            rule.zero_grad()
            F.cross_entropy(net(images[rows[index]]), noisy[index]).backward()
            rule.step()
    for index, (net, outcome) in enumerate(zip(nets, together.outcomes(), strict=True)):
        for name, parameter in net.named_parameters():
            assert torch.allclose(together.parameters[name][index], parameter, rtol=1e-4, atol=1e-6)
        assert outcome.loss == pytest.approx(F.cross_entropy(net(images), labels).item(), rel=1e-4)
        assert outcome.setting == SETTINGS[index]


class Drawn(Together):
    """One network that sees what a stream of limen draws."""

    def __init__(self, setting, images, labels, stream, weight_decay):
        super().__init__([setting], images, labels, weight_decay)
        self.stream = stream

    def batch(self, step):
        drawn = self.stream(step)
        return drawn.inputs[None, :, 0].long(), drawn.targets[None].argmax(2)


def test_its_step_is_that_of_training_on_the_same_draws():
    images, labels = data()
    seen = {"seed": 3, "label_noise": 0.5, "classes": 2}
    setting = Setting(0.3, 0.5, 4, 0)
    rows = Minibatches(
        torch.arange(23.0)[:, None], labels, 4, **seen
    )  # the number of each image in its place
    drawn = Drawn(setting, images, labels, rows, weight_decay=0.01)
    objective = Training(network(setting.seed), "ce")
    stream, rule = Minibatches(images, labels, 4, **seen), sgd.make(lr=setting.lr, weight_decay=0.01)
    state = rule.init(objective, objective.start())
    flipped = 0
    for step in range(12):
        drawn.step(step)
        state, _ = rule.step(objective.at(state, stream(step)), state)
        numbers, noisy = drawn.batch(step)
        flipped += int((noisy != labels[numbers]).sum())
    assert flipped > 0
    for name, parameter in objective.state_dict(state).items():
        assert torch.allclose(drawn.parameters[name][0], parameter, rtol=1e-4, atol=1e-6)


def test_an_epoch_sees_each_image_once_and_noise_is_fresh_and_wrong():
    images, labels = data(24)
    together = Together(SETTINGS, images, labels)
    epochs = []
    for epoch in range(2):
        batches = [together.batch(6 * epoch + step) for step in range(6)]
        rows, noisy = (torch.cat(part, dim=1) for part in zip(*batches, strict=True))
        epochs.append(rows)
        assert torch.equal(rows.sort(1).values, torch.arange(24).expand(3, 24))
        assert torch.equal(noisy[0], labels[rows[0]])
        assert 3 < int((noisy[1] != labels[rows[1]]).sum()) < 21
        assert torch.equal(noisy[2], 1 - labels[rows[2]])
    assert not torch.equal(*epochs)
    assert not torch.equal(epochs[0][1], epochs[0][2])  # one seed, two settings: own streams


def test_the_layers_are_those_that_tracing_finds():
    net = network(3)
    groups = neuron_groups(net, torch.zeros(2, 1, 8, 8))
    parameters = dict(net.named_parameters())
    for group, parts in zip(groups, layer_parts(parameters), strict=True):
        assert torch.equal(group.vectors(parameters).sort(1).values, torch.cat(parts, 1).sort(1).values)


def test_a_network_that_diverged_has_no_fraction():
    images, labels = data()
    together = Together([Setting(0.1, 0.0, 4, 0)], images, labels)
    together.parameters["8.weight"] = torch.full_like(together.parameters["8.weight"], torch.nan)
    (outcome,) = together.outcomes()
    assert outcome.layers == ()
    assert outcome.fraction != outcome.fraction


def test_batches_of_two_sizes_do_not_go_together():
    with pytest.raises(InputError, match="one size"):
        Together([Setting(0.1, 0, 4, 0), Setting(0.1, 0, 8, 0)], *data())


def rows(fraction) -> list[dict[str, float]]:
    """A made-up grid: what `fraction` says of (lr, noise, batch size, seed)."""
    return [
        {**vars(setting), "fraction": fraction(setting), "loss": 0.1 * setting.seed, "accuracy": 1.0}
        for setting in collapse.grid()
    ]


def test_the_grid_is_whole():
    settings = collapse.grid()
    assert len(settings) == len(set(settings)) == 4 * 4 * 4 * 3
    assert all(collapse.BASE[axis] in levels for axis, levels in collapse.AXES.items())
    assert {setting.batch_size for setting in collapse.control()} == {len(collapse.images()[0])}


def test_correlations_of_a_made_up_grid():
    made = rows(lambda s: s.lr * 0 + 1 - s.label_noise * s.batch_size + 1e-9 * s.seed)
    assert collapse.correlations(made, "label_noise")[0] == pytest.approx(-0.95, abs=0.05)
    rho, median, constant = collapse.correlations(rows(lambda s: s.batch_size), "lr")
    assert rho != rho  # nothing varies
    assert (median, constant) == (0.0, 16)
    low, high, apart = collapse.ends(rows(lambda s: s.lr + 0.01 * s.seed), "lr")
    assert (low, high) == pytest.approx((0.11, 0.41))
    assert apart == pytest.approx(0.3 / (2 * 0.01**2 / 3) ** 0.5)


def test_spearman_is_that_of_scipy():
    draw = np.random.default_rng(0)
    for _ in range(20):
        x, y = draw.integers(0, 5, 12), draw.integers(0, 7, 12)
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)


def test_the_recipe_writes_what_it_reads_and_draws_it(tmp_path):
    found = collapse.run(
        [Setting(0.3, 0.1, 4, 0), Setting(0.3, 0.1, 8, 0), Setting(0.3, 0.0, 8, 1)], processes=1, steps=3
    )
    collapse.write(found, tmp_path / "grid.csv")
    again = collapse.read(tmp_path / "grid.csv")
    assert [row.keys() for row in again] == [dict.fromkeys(collapse.COLUMNS).keys()] * 3
    assert [row["loss"] for row in again] == pytest.approx([row["loss"] for row in found], rel=1e-5)
    made = rows(lambda s: 1 - s.lr)
    still = [{**made[0], "batch_size": collapse.FULL}]
    assert collapse.on_grid([*made, *still]) == made
    figure = collapse_grid(made, collapse.AXES, collapse.BASE, tmp_path / "grid.png", control=still)
    assert (tmp_path / "grid.png").stat().st_size > 10_000
    heights = figure.axes[0].containers[0].lines[0].get_ydata()
    assert heights == pytest.approx([1 - lr for lr in collapse.LR])
    assert len(collapse.said([*made, *still])) == 5
