"""Does the sign of the Lyapunov exponent say which pairs of neurons merge?

Plants 12 pairs of equal neurons in a network with 24 tanh units and no biases, on 64 points y = sin 2x₁, and trains it
on that set for 500 steps, with 8 points and fresh Gaussian label noise at each step. Takes the Lyapunov
exponent normal to each pair's permutation set along the next 3,000 steps. Then moves every pair apart, to .01 in
2‖a−b‖²/(‖a‖²+‖b‖²), and trains as long on minibatches and noise of another seed. A pair has merged where this ratio
has fallen by more than √10, and parted where it has grown by more than that. Four kinds of training, 48 pairs: with one
input label noise attracts, with eight it repels.

Command: limen recipe collapse_pairs

Writes pairs.csv, a row a pair; pairs.png; and prints the confusion table. About two minutes on a slow core.

The kinds of training were chosen from a run at seed 100, before the first at seed 0. An earlier version planted the
pairs in the convolutional network of `limen recipe collapse`, one image a step: its 60 exponents were between -2e-5 and
-6e-5, weight decay and little else, and none of the pairs had merged or parted after 500 to 4,000 steps
(benchmarks/results/collapse-pairs-conv.csv).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limen.config import results_root
from limen.errors import InputError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from limen.types import Batch

DATASETS = ("sine",)


@dataclass(frozen=True)
class Kind:
    """A kind of training.

    Attributes:
        inputs: dimension of x.
        label_noise: standard deviation of what is added to y at each step.
        lr: learning rate.
    """

    inputs: int
    label_noise: float
    lr: float = 0.2


KINDS = (Kind(1, 0.3), Kind(1, 1.0), Kind(2, 1.0), Kind(8, 1.0))
POINTS, BATCH_SIZE, HIDDEN = 64, 8, 24
BEFORE, STEPS, BURN_IN = 500, 3000, 300
APART, MERGED, PARTED = 0.01, 0.01 / 10**0.5, 0.01 * 10**0.5
"""Of 2‖a−b‖²/(‖a‖²+‖b‖²): at the start, and where a pair counts as merged or as parted."""


@dataclass(frozen=True)
class Pair:
    """What was predicted of a pair, and what became of it.

    Attributes:
        kind: of training.
        exponent: Lyapunov exponent a step.
        error: its standard error.
        ratio: 2‖a−b‖²/(‖a‖²+‖b‖²) at the end.
    """

    kind: Kind
    exponent: float
    error: float
    ratio: float

    @property
    def fate(self) -> str:
        """What became of it: merged, parted, or neither yet."""
        return "merged" if self.ratio < MERGED else "parted" if self.ratio > PARTED else "neither"


def recipe(
    dataset: str = "sine",
    *,
    results: str | None = None,
    data_dir: str | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Follow the pairs, write the table and draw it; return the path of the figure.

    Args:
        dataset: "sine".
        results: folder of results (default: $RESULTS, else results).
        data_dir: not used.
        quiet: print nothing.

    Raises:
        InputError: another data set.
    """
    from limen.plots.collapse_pairs import collapse_pairs

    if dataset not in DATASETS:
        raise InputError(f"dataset: expected sine, got {dataset!r}.{nearest(dataset, DATASETS)}")
    folder = results_root(results) / "recipes" / "collapse_pairs"
    found = [pair for kind in KINDS for pair in follow(kind)]
    write(found, folder / "pairs.csv")
    collapse_pairs([vars(pair) | vars(pair.kind) for pair in found], folder / "pairs.png", apart=APART)
    if not quiet:
        print("\n".join(confusion(found)))
    return [folder / "pairs.png"]


def follow(kind: Kind, *, seed: int = 0, steps: int = STEPS, burn_in: int = BURN_IN) -> list[Pair]:
    """Return what was predicted of 12 pairs in one kind of training, and what became of them."""
    import torch
    from torch import nn

    from limen.collapse import PermutationSets, normal_exponents
    from limen.dynamics import sgd
    from limen.objectives.training import Training
    from limen.randomness import generator
    from limen.symmetry import neuron_groups
    from limen.types import Need

    def normal(*shape: int, name: str) -> Tensor:
        return torch.randn(shape, generator=generator(seed, f"pairs/{name}"), dtype=torch.float64)

    below, above = (nn.Linear(*sizes, bias=False) for sizes in ((kind.inputs, HIDDEN), (HIDDEN, 1)))
    net = nn.Sequential(below, nn.Tanh(), above).double()
    with torch.no_grad():
        below.weight.copy_(normal(HIDDEN, kind.inputs, name="in") / kind.inputs**0.5)
        above.weight.copy_(normal(1, HIDDEN, name="out") / HIDDEN**0.5)
    x = normal(POINTS, kind.inputs, name="x")
    (group,) = neuron_groups(net, x)
    pairs = [(first, first + 1) for first in range(0, HIDDEN, 2)]
    sets = PermutationSets.of(group, dict(net.named_parameters()), pairs)
    objective, rule = Training(net, "mse"), sgd.make(lr=kind.lr)

    def trained(w: Tensor, own: int, count: int) -> Tensor:
        state, stream = rule.init(objective, w), noisy(x, kind, own)
        for step in range(count):
            state, _ = rule.step(objective.at(state, stream(step), Need.GRAD), state)
        return state.w

    w = objective.start()
    w[sets.second] = w[sets.first]
    w = sets.project(trained(w, 3 * seed, BEFORE))
    told = normal_exponents(
        objective, rule, noisy(x, kind, 3 * seed + 1), w, sets, steps=steps, burn_in=burn_in, seed=seed
    )
    directions = normal(sets.count, sets.width, name="apart")
    lengths = w[sets.first].norm(dim=1) * (APART / 2) ** 0.5  # the ratio is then 2·(√2 length)²/2‖a‖², nearly
    moved = w + sets.lift(directions / directions.norm(dim=1, keepdim=True) * lengths[:, None], len(w))
    end = trained(moved, 3 * seed + 2, burn_in + steps)
    a, b = end[sets.first], end[sets.second]
    ratios = 2 * (a - b).square().sum(1) / (a.square().sum(1) + b.square().sum(1))
    return [
        Pair(kind, float(value), float(error), float(ratio))
        for value, error, ratio in zip(told.value, told.error, ratios, strict=True)
    ]


def noisy(x: Tensor, kind: Kind, seed: int) -> Callable[[int], Batch]:
    """Return a stream of 8 of the points a step, with fresh noise on y = sin 2x₁."""
    import torch

    from limen.randomness import generator
    from limen.types import Batch

    y = torch.sin(2 * x[:, :1])

    def stream(step: int) -> Batch:
        draw = generator(seed, "pairs/batch", step)
        rows = torch.randint(POINTS, (BATCH_SIZE,), generator=draw)
        noise = torch.randn(BATCH_SIZE, 1, generator=draw, dtype=x.dtype)
        return Batch(x[rows], y[rows] + kind.label_noise * noise)

    return stream


def confusion(pairs: Sequence[Pair]) -> list[str]:
    """Return the table: sign of the exponent against what became of the pair; and how often the sign was right."""
    fates = ("merged", "parted", "neither")
    lines = ["exponent".ljust(12) + "".join(fate.rjust(9) for fate in fates)]
    for name, negative in (("negative", True), ("positive", False)):
        some = [pair for pair in pairs if (pair.exponent < 0) == negative]
        lines.append(
            name.ljust(12) + "".join(str(sum(p.fate == fate for p in some)).rjust(9) for fate in fates)
        )
    decided = [pair for pair in pairs if pair.fate != "neither"]
    right = sum((pair.exponent < 0) == (pair.fate == "merged") for pair in decided)
    sure = [pair for pair in decided if abs(pair.exponent) > 2 * pair.error]
    sure_right = sum((pair.exponent < 0) == (pair.fate == "merged") for pair in sure)
    lines.append(
        f"right: {right} of {len(decided)}; where the exponent is 2 standard errors from 0: "
        f"{sure_right} of {len(sure)}"
    )
    return lines


def write(pairs: Sequence[Pair], path: Path) -> None:
    """Write the table as CSV."""
    from limen.store import files

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["inputs", "label_noise", "lr", "exponent", "error", "ratio", "fate"])
    for pair in pairs:
        numbers = [f"{value:.6g}" for value in (pair.exponent, pair.error, pair.ratio)]
        table.writerow([*vars(pair.kind).values(), *numbers, pair.fate])
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, text.getvalue().encode())
