"""A step of one run of an ensemble against a step of a run by itself, records on disk included."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from limen.config import GDSpec
from limen.ensemble import groups, launch_together
from limen.launch import launch
from limen.types import Event, Mark

PLAIN = {"dataset": "chebyshev-5-20", "arch": "regression"}
DIGITS = {"dataset": "digits", "arch": "fc-tanh"}
CASES: tuple[tuple[str, dict[str, Any], tuple[int, ...], int], ...] = (
    ("chebyshev 1-100-1", PLAIN, (8, 64), 2000),
    ("chebyshev, tests every step", PLAIN | {"test_freq": 1}, (64,), 600),
    ("chebyshev, 1 eigenvalue every 50", PLAIN | {"neigs": 1, "eig_freq": 50}, (64,), 200),
    ("chebyshev 1-1500-1", PLAIN | {"model": {"width": 1500}}, (8,), 500),
    ("chebyshev of 200 points 1-100-1", PLAIN | {"dataset": "chebyshev-5-200"}, (8,), 500),
    ("chebyshev fc-elu, width 32 (vmap)", PLAIN | {"arch": "fc-elu", "model": {"width": 32}}, (8, 16), 300),
    ("digits fc-tanh, width 8", DIGITS | {"model": {"width": 8}}, (8,), 300),
    ("digits fc-tanh, width 200", DIGITS, (4,), 200),
)
SETTLED = 300
"""Steps after which a small network by itself has been traced (see bench_step)."""


def run() -> None:
    print(f"{'':36}{'m':>4}{'alone ms':>10}{'together ms':>13}{'ratio':>7}  {'auto'}")
    for name, words, sizes, steps in CASES:
        for m in sizes:
            with tempfile.TemporaryDirectory() as root:
                one, many = [], []
                for turn in range(2):  # in turn, so that a drift of the machine meets both
                    one.append(alone(specs(f"{root}/one{turn}", words, 1, SETTLED + steps)))
                    many.append(together(specs(f"{root}/many{turn}", words, m, steps)))
                chosen = len(groups(specs(root, words, m, steps), "auto")) < m
            a, b = min(one), min(many)
            print(f"{name:36}{m:4}{a:10.4f}{b:13.4f}{a / b:7.1f}  {'together' if chosen else 'alone'}")
    print("CPU time a run-step; neither start-up, nor tracing, nor the closing of the folders is in it.")


def specs(root: str, words: dict[str, Any], m: int, steps: int) -> list[GDSpec]:
    given = {"loss": "mse", "max_steps": steps, "test_freq": -1, "results": str(Path(root)), **words}
    return [GDSpec(lr=0.01 * (1 + i % 8), seed=i // 8, **given) for i in range(m)]


def alone(given: list[GDSpec]) -> float:
    """Milliseconds of CPU a step, from step SETTLED on."""
    at: dict[int, float] = {}

    def listen(event: Event) -> None:
        match event:
            case Mark(step):
                at[step] = time.process_time()

    launch(given[0], matmul="highest", listen=listen)
    return (at[given[0].max_steps] - at[SETTLED]) * 1e3 / (given[0].max_steps - SETTLED)


def together(given: list[GDSpec]) -> float:
    """Milliseconds of CPU a run-step, from the end of the first block of steps to that of the last."""
    at: list[tuple[int, float]] = []

    def listen(number: int, event: Event) -> None:
        match event:
            case Mark(step) if number == 0:
                at.append((step, time.process_time()))

    launch_together(given, matmul="highest", listen=listen)
    (first, begun), (last, ended) = at[0], at[-1]
    return (ended - begun) * 1e3 / ((last - first) * len(given))
