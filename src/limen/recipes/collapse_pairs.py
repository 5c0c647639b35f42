"""Does the sign of the Lyapunov exponent say which pairs of neurons merge?

Plants 20 pairs of equal neurons in the small convolutional network of `limen recipe collapse` (4 in the first
convolution, 16 in the hidden layer), trains it on that set for 1,000 steps, an image a step with label noise, and takes
the Lyapunov exponent normal to each pair's permutation set along the steps that follow. Then it moves every pair apart,
to .01 in 2‖a−b‖²/(‖a‖²+‖b‖²), and trains as long on minibatches and label noise of another seed. A pair has merged
where this ratio has fallen by more than √10, and parted where it has grown by more than that. Three kinds of training,
60 pairs.

Command: limen recipe collapse_pairs

Writes pairs.csv, a row a pair; pairs.png; and prints the confusion table. About three minutes on a slow core. The kinds
of training were chosen from runs at seed 100, before the first at seed 0.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limen.config import results_root
from limen.errors import InputError, nearest
from limen.recipes.collapse import WEIGHT_DECAY, images

DATASETS = ("digits",)

TRAININGS = ((0.2, 0.3, 4000), (0.3, 0.3, 2500), (0.4, 0.1, 500))
"""Learning rate, label noise, and steps: the last one is so near the edge of stability that its pairs part at once."""

BATCH_SIZE = 1
BEFORE, BURN_IN = 1000, 100
APART, MERGED, PARTED = 0.01, 0.01 / 10**0.5, 0.01 * 10**0.5
"""Of 2‖a−b‖²/(‖a‖²+‖b‖²): at the start, and where a pair counts as merged or as parted."""


@dataclass(frozen=True)
class Pair:
    """What was predicted of a pair, and what became of it.

    Attributes:
        lr: learning rate.
        label_noise: probability of a wrong label.
        layer: where the pair is.
        exponent: Lyapunov exponent a step.
        error: its standard error.
        ratio: 2‖a−b‖²/(‖a‖²+‖b‖²) at the end.
    """

    lr: float
    label_noise: float
    layer: str
    exponent: float
    error: float
    ratio: float

    @property
    def fate(self) -> str:
        """What became of it: merged, parted, or neither yet."""
        return "merged" if self.ratio < MERGED else "parted" if self.ratio > PARTED else "neither"


def recipe(
    dataset: str = "digits",
    *,
    results: str | None = None,
    data_dir: str | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Follow the pairs, write the table and draw it; return the path of the figure.

    Args:
        dataset: "digits".
        results: folder of results (default: $RESULTS, else results).
        data_dir: not used; digits come with limen.
        quiet: print nothing.

    Raises:
        InputError: another data set.
    """
    from limen.plots.collapse_pairs import collapse_pairs

    if dataset not in DATASETS:
        raise InputError(f"dataset: expected digits, got {dataset!r}.{nearest(dataset, DATASETS)}")
    folder = results_root(results) / "recipes" / "collapse_pairs"
    found = [pair for lr, noise, steps in TRAININGS for pair in follow(lr, noise, steps=steps)]
    write(found, folder / "pairs.csv")
    collapse_pairs([vars(pair) | {"fate": pair.fate} for pair in found], folder / "pairs.png", apart=APART)
    if not quiet:
        print("\n".join(confusion(found)))
    return [folder / "pairs.png"]


def follow(
    lr: float,
    label_noise: float,
    *,
    steps: int,
    seed: int = 0,
    before: int = BEFORE,
    burn_in: int = BURN_IN,
) -> list[Pair]:
    """Return what was predicted of the 20 pairs in one kind of training, and what became of them."""
    import torch

    from limen.collapse import PermutationSets, normal_exponents
    from limen.collapse.report import positions
    from limen.collapse.side_by_side import network
    from limen.dynamics import sgd
    from limen.objectives.training import Training
    from limen.randomness import generator
    from limen.streams import Minibatches
    from limen.symmetry import neuron_groups
    from limen.types import Need

    inputs, labels = images()
    module = network(seed)
    groups = neuron_groups(module, inputs[:2])
    where = {g.name: positions(g, dict(module.named_parameters())) for g in (groups[0], groups[2])}
    kinds = {name: PermutationSets(place[0::2], place[1::2]) for name, place in where.items()}
    objective = Training(module, "ce")
    rule = sgd.make(lr=lr, weight_decay=WEIGHT_DECAY)

    def stream(own: int) -> Minibatches:
        return Minibatches(inputs, labels, BATCH_SIZE, classes=2, seed=own, label_noise=label_noise or None)

    def trained(w: torch.Tensor, own: int, count: int) -> torch.Tensor:
        state, batches = rule.init(objective, w), stream(own)
        for step in range(count):
            state, _ = rule.step(objective.at(state, batches(step), Need.GRAD), state)
        return state.w

    def planted(w: torch.Tensor) -> torch.Tensor:
        for sets in kinds.values():
            w = sets.project(w)
        return w

    w = planted(objective.start())
    for name, place in where.items():  # one of each pair at full size, lest the mean of two be small
        module_start = objective.start()
        w[place[0::2]] = w[place[1::2]] = module_start[place[0::2]]
        assert kinds[name].distances(w).max() == 0
    w = planted(trained(w, 3 * seed, before))
    exponents = {
        name: normal_exponents(
            objective, rule, stream(3 * seed + 1), w, sets, steps=steps, burn_in=burn_in, seed=len(name)
        )
        for name, sets in kinds.items()
    }
    moved = w.clone()
    for name, sets in kinds.items():
        directions = torch.randn(sets.count, sets.width, generator=generator(0, f"pairs/{name}"))
        lengths = w[where[name][0::2]].norm(dim=1) * (APART / 2) ** 0.5  # ratio = 2·(√2 length)²/(2‖a‖²)
        moved += sets.lift(directions / directions.norm(dim=1, keepdim=True) * lengths[:, None], len(w))
    end = trained(moved, 3 * seed + 2, burn_in + steps)
    found = []
    for name, place in where.items():
        a, b = end[place[0::2]], end[place[1::2]]
        ratios = 2 * (a - b).square().sum(1) / (a.square().sum(1) + b.square().sum(1))
        told = exponents[name]
        for value, error, ratio in zip(told.value, told.error, ratios, strict=True):
            found.append(Pair(lr, label_noise, name, float(value), float(error), float(ratio)))
    return found


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
    table.writerow(["lr", "label_noise", "layer", "exponent", "error", "ratio", "fate"])
    for pair in pairs:
        numbers = [f"{value:.6g}" for value in (pair.exponent, pair.error, pair.ratio)]
        table.writerow([pair.lr, pair.label_noise, pair.layer, *numbers, pair.fate])
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, text.getvalue().encode())
