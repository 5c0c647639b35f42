"""The recipe of planted pairs, in short."""

from __future__ import annotations

import csv

import pytest
import torch

from limen.errors import InputError
from limen.plots.collapse_pairs import collapse_pairs
from limen.recipes import collapse_pairs as recipe

KIND = recipe.Kind(1, 1.0)


def test_pairs_begin_at_the_ratio_that_is_said_and_are_followed_alike():
    pairs = recipe.follow(KIND, seed=100, steps=20, burn_in=0)
    assert len(pairs) == 12
    for pair in pairs:  # twenty small steps from where it began
        assert pair.ratio == pytest.approx(recipe.APART, rel=0.5)
        assert pair.fate == "neither"
        assert pair.error > 0
    assert pairs == recipe.follow(KIND, seed=100, steps=20, burn_in=0)


def test_noise_is_fresh_at_each_step_and_a_function_of_it():
    x = torch.linspace(-1, 1, recipe.POINTS, dtype=torch.float64)[:, None]
    stream = recipe.noisy(x, KIND, 0)
    assert torch.equal(stream(3).targets, stream(3).targets)
    assert not torch.equal(stream(3).targets, stream(4).targets)
    off = torch.cat([stream(step).targets - torch.sin(2 * stream(step).inputs) for step in range(200)])
    assert off.std().item() == pytest.approx(1.0, abs=0.05)


def test_confusion_counts_signs_against_fates(tmp_path):
    merged, parted, neither = 1e-4, 0.5, 0.01
    made = [(-1.0, merged), (-1.0, merged), (-1.0, parted), (2.0, parted), (0.1, merged), (0.1, neither)]
    pairs = [recipe.Pair(KIND, exponent, 0.3, ratio) for exponent, ratio in made]
    told = recipe.confusion(pairs)
    assert told[1].split() == ["negative", "2", "1", "0"]
    assert told[2].split() == ["positive", "1", "1", "1"]
    assert told[3].startswith("right: 3 of 5;")
    assert told[3].endswith("3 of 4")
    recipe.write(pairs, tmp_path / "pairs.csv")
    with (tmp_path / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["fate"] for row in rows] == [pair.fate for pair in pairs]
    figure = collapse_pairs(
        [vars(pair) | vars(pair.kind) for pair in pairs], tmp_path / "pairs.png", apart=recipe.APART
    )
    assert figure.axes[0].get_yscale() == "log"
    assert (tmp_path / "pairs.png").stat().st_size > 5000


def test_there_is_one_data_set():
    with pytest.raises(InputError, match="sine"):
        recipe.recipe("sin")
