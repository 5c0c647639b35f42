"""A step of full-batch descent with its record: one fused pass against the published separate passes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

from limen import GD, Experiment, Supervised, Train, data, models, record


def run() -> None:
    print(f"{'':34}{'p':>8}{'limen ms':>10}{'separate passes ms':>20}{'ratio':>7}")
    for dataset, arch, steps in (("chebyshev-5-20", "regression", 2000), ("digits", "fc-tanh", 100)):
        made = data.load(dataset)
        net = models.build(arch, input_shape=made.input_shape, outputs=made.outputs).float()
        objective = Supervised(net, made.inputs.float(), made.targets, "mse")
        ours, theirs = [], []
        for _ in range(3):  # in turn, so that a drift of the machine meets both
            ours.append(limen(objective, steps))
            theirs.append(published(net, objective.inputs, objective.loss.targets, steps))
        a, b = min(ours) * 1e3 / steps, min(theirs) * 1e3 / steps
        print(f"{dataset + ' ' + arch:34}{objective.dim:8}{a:10.3f}{b:20.3f}{b / a:7.2f}")
    print("limen includes writing the record of each step to disk; neither has test passes or eigenvalues.")


def limen(objective: Supervised, steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        record(Path(folder) / "run", Experiment(objective, GD(1e-3), steps, [Train()]))
        return time.process_time() - begun


def published(net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> float:
    """Loss and accuracy in one pass through a DataLoader, the gradient in another, as the published code does."""
    loader = DataLoader(TensorDataset(x, y), batch_size=1000)
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3)
    begun = time.process_time()
    for _ in range(steps):
        with torch.no_grad():
            outputs = [(net(a), b) for a, b in loader]
            sum(0.5 * (f - b).square().sum().item() for f, b in outputs) / len(x)
            sum((f.argmax(1) == b.argmax(1)).sum().item() for f, b in outputs) / len(x)
        optimiser.zero_grad()
        for a, b in loader:
            (0.5 * (net(a) - b).square().sum() / len(x)).backward()
        optimiser.step()
    return time.process_time() - begun
