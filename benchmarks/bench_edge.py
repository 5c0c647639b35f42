"""The published procedure against limen on its own ground: CIFAR-shaped 5 000 x 3072, fc-tanh, top 2 every 10 steps.

`baseline_edge.py` is the published procedure, timed as it is. limen gives the same outputs (training and test loss
each step, eigenvalues), once with and once without the test passes. Both run in this process, on one thread, and
CPU time is compared.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks import baseline_edge
from limen import GD, Eigs, Experiment, Schedule, Supervised, Test, Train, data, models, record
from limen.linalg.matmul import choose_matmul_mode

LR, STEPS, EVERY, K = 0.02, 30, 10, 2


def run() -> None:
    made = cifar_shaped()
    net = models.build("fc-tanh", input_shape=made.input_shape, outputs=10, seed=0)
    train, test = (made.inputs, made.targets), (made.test_inputs, made.test_targets)
    with_tests, without = limen(net, train, test, tests=True), limen(net, train, test, tests=False)
    torch.set_float32_matmul_precision("highest")
    hot = [(x, F.one_hot(y, 10).float()) for x, y in (train, test)]
    theirs = baseline_edge.run(net, *hot, LR, STEPS, K, EVERY)
    parts = theirs["seconds"]
    whole = sum(parts.values())
    print(f"{STEPS} steps, top {K} every {EVERY}, lr {LR}; matmul mode {choose_matmul_mode()}")
    print("published: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts.items()))
    for name, (ours, seconds), reference in (
        ("same outputs", with_tests, whole),
        ("without test passes", without, whole - parts["test"]),
    ):
        loss_error = np.abs(ours["train_loss"] / np.array(theirs["losses"]) - 1).max()
        eig_error = np.abs(ours["eigs"] / np.array(theirs["eigs"]) - 1).max()
        products = ours["eig_products"]
        print(
            f"{name:20} limen {seconds:6.2f} s, published {reference:7.2f} s, ratio {reference / seconds:5.1f}; "
            f"losses to {loss_error:.0e}, eigenvalues to {eig_error:.0e}, products {products.astype(int).tolist()}"
        )


def limen(
    net: torch.nn.Module, train: tuple, test: tuple, *, tests: bool
) -> tuple[dict[str, np.ndarray], float]:
    """Return the records by name and the CPU seconds."""
    choose_matmul_mode()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        objective = Supervised(net, *train, "mse", test=test)
        probes = [Train(), Eigs(K, Schedule(EVERY)), *([Test()] if tests else [])]
        done = record(Path(folder) / "run", Experiment(objective, GD(LR), STEPS, probes))
        seconds = time.process_time() - begun
        return {name: done.series(name).values for name in done.names()}, seconds


def cifar_shaped() -> data.Dataset:
    root = Path(__file__).parent.parent
    sys.path.insert(0, str(root / "tests"))
    import cifar_like

    return data.load("cifar10-5k", data_dir=cifar_like.cached(root / ".cache" / "cifar-like"))
