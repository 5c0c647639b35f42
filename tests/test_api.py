"""A stranger's network and data through the Python API: run, resume, plot, in under 15 lines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import limen


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.linear(self.norm(x)))


class Residual(nn.Module):
    """A residual network that limen has never seen."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = (
            nn.Linear(6, 16),
            nn.ModuleList([Block(16), Block(16)]),
            nn.Linear(16, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_a_strangers_network_runs_resumes_and_is_drawn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    X = torch.randn(80, 6)
    y = (X[:, 0] * X[:, 1] > 0).long() + (X[:, 2] > 1).long()

    objective = limen.Supervised(Residual(), X[:60], y[:60], "ce", test=(X[60:], y[60:]))
    probes = [limen.Train(), limen.Test(limen.Schedule(5)), limen.Eigs(2, limen.Schedule(10))]
    first = limen.Experiment(objective, limen.GD(lr=0.1), steps=40, probes=probes)
    run = limen.record(tmp_path / "mine", first)
    longer = limen.Experiment(objective, limen.GD(lr=0.1), steps=80, probes=probes)
    run = limen.record(tmp_path / "mine", longer, resume=True)
    limen.curves([run], tmp_path / "mine.png")
    sharpness, threshold = run.series("eigs").values[:, 0], run.threshold

    assert run.status == "finished"
    assert threshold == pytest.approx(20)
    assert sharpness.shape == (8,)
    assert (sharpness > 0).all()
    assert (tmp_path / "mine.png").stat().st_size > 10_000
    whole = limen.record(tmp_path / "whole", longer)
    for name in run.names():
        assert (run.series(name).values == whole.series(name).values).all(), name


def test_the_published_files_of_a_run_made_in_python(tmp_path: Path) -> None:
    x = torch.linspace(-1, 1, 9)[:, None]
    objective = limen.Supervised(nn.Linear(1, 1), x, x, "mse")
    experiment = limen.Experiment(
        objective, limen.Polyak(0.1, 0.5), 7, [limen.Train(), limen.Eigs(1, limen.Schedule(2))]
    )
    limen.record(tmp_path, experiment)
    assert torch.load(tmp_path / "train_loss_final").shape == (7,)
    assert torch.load(tmp_path / "train_acc_final").isnan().all()
    assert torch.load(tmp_path / "eigs_final").shape == (4, 1)


def test_everything_exported_is_there() -> None:
    for name in limen.__all__:
        assert getattr(limen, name) is not None
    assert set(limen.__all__) <= set(dir(limen))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        limen.nothing  # noqa: B018
