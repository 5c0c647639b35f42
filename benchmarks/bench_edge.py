"""The published procedure against limen on its own ground: CIFAR-shaped 5 000 x 3072, fc-tanh, top 2 every 10 steps.

`baseline_edge.py` is the published procedure, timed as it is; it takes its turn after each measurement of limen's run,
ten steps at a time, so that a drift of the machine meets both. limen gives the same outputs (training and test loss
each step, eigenvalues) and writes them to disk. Without test passes: the time of either side less that of its tests.
One process, one thread, CPU time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import baseline_edge
from limen import GD, Eigs, Experiment, Schedule, Supervised, Test, Train, data, models, record
from limen.linalg.matmul import choose_matmul_mode
from limen.objectives.point import Hessian, SupervisedPoint
from limen.types import Memory, Need, Objective, Point, Probe, State, Value

LR, STEPS, EVERY, K = 0.02, 60, 10, 2


@dataclass(frozen=True)
class Turn(Probe):
    """Runs the baseline up to limen's next measurement, on a clock of its own."""

    net: nn.Module
    data: tuple
    mode: str
    schedule: Schedule
    parts: Counter = field(default_factory=Counter)
    losses: list[float] = field(default_factory=list)
    eigs: list[np.ndarray] = field(default_factory=list)
    products: list[int] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    name = "turn"
    need = Need.NOTHING

    def init(self, objective: Objective) -> Memory:
        """Return nothing to remember."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return nothing that identifies a run."""
        return {}

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        """Take the turn."""
        begun = time.process_time()
        torch.set_float32_matmul_precision("highest")
        theirs = baseline_edge.run(self.net, *self.data, LR, EVERY, K, EVERY)
        torch.set_float32_matmul_precision(self.mode)
        self.parts.update(theirs["seconds"])
        self.losses.extend(theirs["losses"])
        self.eigs.extend(theirs["eigs"])
        self.products.append(theirs["products"])
        self.taken.append(time.process_time() - begun)
        return {"turn": step}, memory


def run() -> None:
    made = cifar_shaped()
    net = models.build("fc-tanh", input_shape=made.input_shape, outputs=10, seed=0)
    train, test = (made.inputs, made.targets), (made.test_inputs, made.test_targets)
    hot = tuple((x, F.one_hot(y, 10).float()) for x, y in (train, test))
    clock: Counter = Counter()
    begun = time.process_time()
    mode = choose_matmul_mode()
    objective = Supervised(net, *train, "mse", test=test)  # copies the network: the baseline may train it
    turn = Turn(net, hot, mode, Schedule(EVERY))
    with tempfile.TemporaryDirectory() as folder, timed_passes(objective, clock):
        probes = [Train(), Test(), Eigs(K, Schedule(EVERY)), turn]
        done = record(Path(folder) / "run", Experiment(objective, GD(LR), STEPS, probes))
        whole = time.process_time() - begun - sum(turn.taken)
        ours = {name: done.series(name).values for name in done.names()}
    report(ours, turn, clock, whole, objective)


def report(
    ours: dict[str, np.ndarray], turn: Turn, clock: Counter, whole: float, objective: Supervised
) -> None:
    theirs, tests = sum(turn.parts.values()), clock["tests"]
    products = ours["eig_products"].astype(int)
    loss_error = np.abs(ours["train_loss"] / np.array(turn.losses) - 1).max()
    eig_error = np.abs(ours["eigs"] / np.array(turn.eigs) - 1).max()
    print(
        f"{STEPS} steps, top {K} every {EVERY}, lr {LR}; matmul mode {turn.mode}, chunk {objective.chunk_size}"
    )
    print(f"losses agree to {loss_error:.0e}, eigenvalues to {eig_error:.0e}")
    print("sharpness x lr / 2:", np.round(ours["eigs"][:, 0] * LR / 2, 2).tolist())
    print(f"products: limen {products.tolist()}, published {turn.products}")
    rate = gemm_rate(objective)
    counts = {"gradients": STEPS, "tests": STEPS, "products": int(products.sum())}
    flops = work(objective)
    floors = {name: counts[name] * flops[name] / rate for name in counts}
    print(
        f"best matrix product here: {rate / 1e9:.0f} GFLOP/s; the floor is the flops of limen's work at this rate"
    )
    print(f"{'':28}{'published':>10}{'limen':>9}{'ratio':>7}{'floor':>9}{'floor ratio':>13}")
    least = sum(floors.values())
    for name, a, b, floor in (
        ("same outputs", theirs, whole, least),
        ("without test passes", theirs - turn.parts["test"], whole - tests, least - floors["tests"]),
    ):
        print(f"{name:28}{a:9.1f}s{b:8.2f}s{a / b:7.1f}{floor:8.2f}s{a / floor:13.1f}")
    published = {"gradients": turn.parts["train"] + turn.parts["gradient"], "tests": turn.parts["test"]}
    published["products"] = turn.parts["eigs"]
    for name in ("gradients", "tests", "products", "audits"):
        floor = floors.get(name, 0.0)
        share = f"{1e3 * clock[name] / counts[name]:8.0f} ms each" if counts.get(name) else ""
        print(f"  {name:26}{published.get(name, 0):9.1f}s{clock[name]:8.2f}s{'':7}{floor:8.2f}s{share}")
    print(f"  {'everything else':26}{'':10}{whole - sum(clock.values()):8.2f}s")


@contextmanager
def timed_passes(objective: Supervised, clock: Counter) -> Iterator[None]:
    """Add the CPU time of passes and products to `clock` while the context lasts."""
    evaluate, matmat = SupervisedPoint._evaluate, Hessian.matmat

    def on_clock(name: str, work: Callable, *args: Any) -> Any:
        begun = time.process_time()
        out = work(*args)
        clock[name] += time.process_time() - begun
        return out

    def timed_evaluate(point: SupervisedPoint, need: Need) -> None:
        on_clock("tests" if point.objective is objective.test else "gradients", evaluate, point, need)

    def timed_matmat(hessian: Hessian, V: torch.Tensor) -> torch.Tensor:
        return on_clock("audits" if auditing[0] else "products", matmat, hessian, V)

    audit, auditing = Eigs._audit, [False]

    def timed_audit(*args: Any) -> Any:
        auditing[0] = True
        try:
            return audit(*args)
        finally:
            auditing[0] = False

    SupervisedPoint._evaluate, Hessian.matmat, Eigs._audit = timed_evaluate, timed_matmat, timed_audit
    try:
        yield
    finally:
        SupervisedPoint._evaluate, Hessian.matmat, Eigs._audit = evaluate, matmat, audit


def work(objective: Supervised) -> dict[str, float]:
    """Return the flops of the matrix products that a gradient, a test pass and a Hessian-vector product need.

    One product of a layer's size takes 2 n in out. A gradient has three a layer (outputs, weights, inputs), but no
    inputs' in the first. A Hessian-vector product on a kept graph differentiates each of the three by both of its
    factors, six; in the first layer the inputs do not move, and two are left.
    """
    first, *rest = [part.weight.numel() for part in objective.module.modules() if isinstance(part, nn.Linear)]
    assert objective.test is not None
    return {
        "gradients": 2 * objective.n * (2 * first + 3 * sum(rest)),
        "tests": 2 * objective.test.n * (first + sum(rest)),
        "products": 2 * objective.n * (2 * first + 6 * sum(rest)),
    }


def gemm_rate(objective: Supervised) -> float:
    """Return the best flop rate of the first layer's products, outputs and weights, over all examples."""
    X = objective.inputs.flatten(1)
    W = next(part.weight for part in objective.module.modules() if isinstance(part, nn.Linear)).detach()
    D = X @ W.T
    best = np.inf
    for _ in range(5):
        for a, b in ((X, W.T), (W, X.T), (D.T, X)):
            begun = time.process_time()
            a @ b
            best = min(best, time.process_time() - begun)
    return 2 * objective.n * W.numel() / best


def cifar_shaped() -> data.Dataset:
    root = Path(__file__).parent.parent
    sys.path.insert(0, str(root / "tests"))
    import cifar_like

    return data.load("cifar10-5k", data_dir=cifar_like.cached(root / ".cache" / "cifar-like"))
