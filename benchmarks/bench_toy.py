"""The solvable systems against the published loops: time a trajectory-step, and statistics that agree."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from limen.objectives.factors import Factors
from limen.objectives.neuron import Neuron, Table
from limen.objectives.quartic import Quartic
from limen.objectives.units import Units
from limen.toys import neuron, quartic, teacher_student
from limen.toys.normals import Normals
from limen.toys.outcome import mean_and_error
from limen.toys.paths import follow

TURNS = 5
"""In turns, so that a drift of the machine meets all; the median ratio of a turn is told."""

PATHS = 1000


def run() -> None:
    print(f"{'ns a trajectory-step, one thread':44}{'loop':>10}{'limen':>10}{'ratio':>8}{'least wanted':>14}")
    well()
    one_neuron()
    students()


def well(levels: int = 32, steps: int = 2000) -> None:
    """Quartic well: NumPy's loop over steps, all paths of a level as one array."""
    zetas = torch.linspace(0.1, 1.2, levels, dtype=torch.float64)

    def loop() -> int:
        theta = 2 * np.random.randn(PATHS)  # noqa: NPY002 - as published
        for _ in range(steps // 4):
            noise = np.random.randn(PATHS)  # noqa: NPY002
            theta = theta - (theta**3 - 1.5 * theta) * 0.0025 + 1.0 * theta * math.sqrt(0.0025) * noise
        return PATHS * (steps // 4)

    def ours(dtype: torch.dtype) -> Callable[[], int]:
        def work() -> int:
            kinds = zetas.to(dtype)
            follow(
                lambda zeta: Quartic(1.5, zeta, dtype),
                kinds,
                lambda level: 2 * Normals(0, "start", level).draw((PATHS, 1)),
                0.0025,
                [steps],
                seed=0,
                name="bench",
                threads=1,
            )
            return levels * PATHS * steps

        return work

    report("quartic float64", 3, loop, ours(torch.float64))
    report("quartic float32", 12, loop, ours(torch.float32))
    moments = []
    for dtype in ("float64", "float32"):
        words = {"zetas": [0.5], "paths": 2, "snapshots": (1,), "shown_time": 0.01, "stationary_paths": 8000}
        out = quartic.run(**words, stationary=(0.5, 1.0, 1.5), stationary_time=25.0, dtype=dtype, threads=1)
        moments.append([mean_and_error(theta**2) for theta in out.arrays["stationary_theta"]])
    for zeta, (a, da), (b, db) in zip((0.5, 1.0, 1.5), *moments, strict=True):
        apart = abs(a - b) / math.hypot(da, db)
        print(
            f"    E[theta^2] at zeta {zeta}: {a:.4f} ± {da:.4f}, in float32 {b:.4f} ± {db:.4f}: {apart:.1f} errors"
        )


def one_neuron(steps: int = 1000, levels: int = 8) -> None:
    """Single neuron: NumPy with all m examples and m noises a path."""
    x, y = neuron.data(0, 32, 0.1)
    a, b = x.numpy(), y.numpy()
    eta, h = 1.0, 0.01

    def loop() -> int:
        w1, w2 = 0.001 * np.random.randn(2, PATHS, 1)  # noqa: NPY002
        for _ in range(steps // 20):
            hidden = np.tanh(w1 * a)
            residual = w2 * hidden - b
            slope = w2 * (1 - hidden**2) * a
            noise = math.sqrt(h * eta / len(a)) * np.random.randn(PATHS, len(a))  # noqa: NPY002
            first = -h * (residual * slope).mean(1) + (slope * noise).sum(1)
            second = -h * (residual * hidden).mean(1) + (hidden * noise).sum(1)
            w1, w2 = w1 + first[:, None], w2 + second[:, None]
        return PATHS * (steps // 20)

    def ours(dtype: torch.dtype) -> Callable[[], int]:
        units = Units(x.to(dtype), y.to(dtype))
        table = Table(units)

        def work() -> int:
            follow(
                lambda rate: Neuron(units, rate, 1.0, table),
                torch.linspace(0.5, 2, levels, dtype=dtype),
                lambda level: 0.001 * Normals(0, "start", level).draw((PATHS, 2)),
                h,
                [steps],
                seed=0,
                name="bench",
                threads=1,
                together=neuron.TOGETHER,
            )
            return levels * PATHS * steps

        return work

    report("neuron, m = 32, float64", 10, loop, ours(torch.float64))
    report("neuron, m = 32, float32", 10, loop, ours(torch.float32))


def students(steps: int = 1000) -> None:
    """Diagonal teacher and student, one seed and one noise at a time: NumPy, and torch as published.

    NumPy's loop, in float64, and limen record the same: losses from the modes, every 250 steps. The published loop, in
    float32, records every ten, through matrices.
    """
    given = teacher_student.problem(0, 1024, 64, np.linspace(0.5, 1, 8).tolist(), 0.5)
    s = given.s.float()
    x = torch.randn(1024, 64) / 32
    left, right, w, y = (
        torch.randn(64, 64) / 8,
        torch.randn(64, 64) / 8,
        torch.randn(64, 64),
        torch.randn(1024, 64),
    )

    def loop(record: int = 10) -> int:
        u, v = torch.ones(64), torch.ones(64)
        kept = []
        for step in range(steps):
            if step % record == 0:
                student = left @ torch.diag(v) @ torch.diag(u) @ right
                said = x @ left @ torch.diag(v) @ torch.diag(u) @ right
                kept += [0.5 * (said - y).square().sum().item(), (student - w).square().mean().item()]
            residual = v * u - s + 10.0 * torch.randn(64)
            first, second = residual * u, residual * v
            u -= 3.0 * (second / 1024)
            v -= 3.0 * (first / 1024)
        return steps

    targets, overlap = given.s.numpy(), given.overlap.numpy()

    def plain(record: int = 250) -> int:
        u, v = np.ones(64), np.ones(64)
        kept = []
        for step in range(steps):
            if step % record == 0:
                product = v * u
                square = float(product @ product)
                kept.append(0.5 * (given.unexplained + float(((product - targets) ** 2).sum())))
                kept.append((given.teacher - 2 * float(product @ overlap) + square) / 64**2)
            residual = v * u - targets + 10.0 * np.random.randn(64)  # noqa: NPY002 - as published
            first, second = residual * u, residual * v
            u -= 3.0 / 1024 * second
            v -= 3.0 / 1024 * first
        return steps

    def ours(dtype: str) -> Callable[[], int]:
        kind = getattr(torch, dtype)
        landscape = Factors(given.s.to(kind), 1024)
        levels = torch.tensor([0.0, 5.0, 10.0, 15.0, 20.0], dtype=kind)[:, None, None]
        grid = np.arange(0, steps + 1, 250)

        def work() -> int:
            # the simulation alone: theory takes the same whatever the number of seeds
            for chunk in range(256 // teacher_student.CHUNK):
                teacher_student._train(landscape, given, levels, grid, (), 3.0, 0.1, steps, 0, chunk)
            return 5 * 256 * steps

        return work

    for dtype in ("float64", "float32"):
        report(f"teacher-student, NumPy, {dtype}", 200, plain, ours(dtype))
    report("    published torch loop, its records, float64", 0, loop, ours("float64"))
    report("    published torch loop without records", 0, lambda: loop(steps), ours("float64"))


def report(name: str, least: float, loop: Callable[[], int], ours: Callable[[], int]) -> None:
    theirs, limens = [], []
    for _ in range(TURNS):
        for work, found in ((loop, theirs), (ours, limens)):
            begun = time.process_time()
            count = work()
            found.append((time.process_time() - begun) / count * 1e9)
    ratio = statistics.median(a / b for a, b in zip(theirs, limens, strict=True))
    a, b = statistics.median(theirs), statistics.median(limens)
    print(f"{name:44}{a:10.1f}{b:10.1f}{ratio:8.1f}{least:14.0f}")
