"""Descent leaves the gradient flow where the sharpness crosses 2/lr.

Runs gradient descent and the gradient flow from one start, with sharpness and projected iterates, and draws two
figures: loss, accuracy, sharpness and distance of both against time; and the distance by itself.

Command: limen recipe departure [--dataset DATASET]

Cost on two slow cores, and what to expect:

- chebyshev-5-20 (the default), regression, lr 0.2, float64: about a minute. S passes 2/lr at step 2840, where the
  distance is 0.12 % of the displacement of the flow; at step 3200, after the first spike of the loss, it is 9 %.
- digits, fc-tanh, lr 0.2: about five minutes. S passes 2/lr at step 170, where the distance is 2.3 % of the
  displacement; the loss spikes some 60 steps later, and at step 260 it is 13 %.
- cifar10-5k, fc-tanh, lr 0.02: the published picture, the same. Hours; a GPU helps. Not timed by us. Its files
  come with `limen data fetch cifar10`.

An interrupted recipe goes on where it was, and a finished one only draws.

Source: Cohen, Kaur, Li, Kolter and Talwalkar, ICLR 2021, Section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limen.cli.execute import execute
from limen.cli.options import Execution
from limen.config import FlowSpec, GDSpec, Spec, results_root, validate
from limen.errors import InputError, nearest
from limen.types import Status


@dataclass(frozen=True)
class Problem:
    """What is trained, and how long.

    Attributes:
        arch: network.
        lr: learning rate of descent.
        steps: of descent; the flow goes as far in time.
        every: steps between two common measurements, one tick of the flow.
        more: further words of both runs.
    """

    arch: str
    lr: float
    steps: int
    every: int
    more: dict[str, Any]


PROBLEMS = {
    "chebyshev-5-20": Problem("regression", 0.2, 4000, 10, {"dtype": "float64", "neigs": 1}),
    "digits": Problem("fc-tanh", 0.2, 400, 10, {"neigs": 2, "projection": "sketch"}),
    "cifar10-5k": Problem(
        "fc-tanh", 0.02, 10_000, 50, {"neigs": 2, "projection": "sketch", "acc_goal": 0.99}
    ),
}
DATASETS = tuple(PROBLEMS)
NPROJ = 500


def recipe(
    dataset: str = "chebyshev-5-20",
    *,
    results: str | None = None,
    data_dir: str | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Run descent and flow, and draw them; return the paths of the figures.

    Args:
        dataset: one of `DATASETS`.
        results: folder of results (default: $RESULTS, else results).
        data_dir: folder of data sets.
        quiet: print nothing.

    Raises:
        InputError: another data set.
        DataError: its files are not here.
    """
    from limen import analysis, store
    from limen.plots import curves, departure

    descent, flow = specs(dataset, results=results, data_dir=data_dir)
    runs = []
    for spec in (descent, flow):
        if not quiet:
            print(f"$ {_words(spec)}")
        execute(spec, Execution(resume=True, quiet=quiet))
        runs.append(store.open_run(spec.folder()))
        if runs[-1].status not in (Status.FINISHED, Status.DIVERGED):
            return []
    folder = results_root(results) / "recipes" / "departure"
    figures = [folder / f"{dataset}.png", folder / f"{dataset}-distance.png"]
    curves(runs, figures[0], distance=True)
    departure(analysis.apart(*runs), runs[0], figures[1])
    return figures


def specs(
    dataset: str, *, results: str | None = None, data_dir: str | None = None
) -> tuple[GDSpec, FlowSpec]:
    """Return the words of descent and of its flow, measured at the same times.

    Raises:
        InputError: the recipe is not made for `dataset`.
    """
    if dataset not in PROBLEMS:
        raise InputError(
            f"dataset: expected one of {', '.join(DATASETS)}, got {dataset!r}.{nearest(dataset, DATASETS)}"
        )
    problem = PROBLEMS[dataset]
    both = {"dataset": dataset, "arch": problem.arch, "loss": "mse", "nproj": NPROJ, "test_freq": -1}
    both |= problem.more | {
        key: value for key, value in (("results", results), ("data_dir", data_dir)) if value is not None
    }
    every = {"eig_freq": problem.every, "iterate_freq": problem.every}
    tick = problem.lr * problem.every
    descent = both | every | {"lr": problem.lr, "max_steps": problem.steps}
    flow = both | {"eig_freq": 1, "iterate_freq": 1, "tick": tick, "max_time": problem.lr * problem.steps}
    return validate(GDSpec, descent), validate(FlowSpec, flow)


def _words(spec: Spec) -> str:
    """Return the command line that makes the spec."""
    values = spec.to_dict()
    plain = [str(values[name]) for name in spec.POSITIONAL]
    defaults = type(spec)(**{name: values[name] for name in spec.POSITIONAL}).to_dict()
    options = [f"--{key} {value}" for key, value in values.items() if value != defaults[key]]
    return " ".join(["limen", spec.COMMAND, *plain, *options])
