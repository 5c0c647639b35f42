"""Whole runs with chunks of 1000, 64 and 7 examples: what may depend on `physical_batch_size`, and what may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limen.config import Built, GDSpec, build, validate
from limen.types import Record

STEPS, CHUNKS = 40, (1000, 64, 7)
FC = {"dataset": "digits", "arch": "fc-tanh", "lr": 0.3, "data": {"n": 70}, "model": {"width": 16}}
CNN = {"dataset": "digits", "arch": "cnn-relu", "lr": 0.1, "data": {"n": 70}, "model": {"width": 4}}
NORMED = {**CNN, "arch": "cnn-bn-relu"}
TEXT = {
    "dataset": "english",
    "arch": "transformer",
    "lr": 0.3,
    "data": {"n": 68, "n_test": 4, "length": 5, "vocabulary": 30},
    "model": {"width": 8, "feedforward": 8},
}


def built(words: dict[str, Any], chunk: int, results: Path) -> Built:
    rest = {"loss": "ce", "max_steps": STEPS, "neigs": 2, "eig_freq": 20, "eig_tol": 1e-9, "dtype": "float64"}
    return build(validate(GDSpec, {**words, **rest, "physical_batch_size": chunk, "results": str(results)}))


def numbers(made: Built) -> dict[str, np.ndarray]:
    """Run, and return training loss, test loss and eigenvalues."""
    kept: dict[str, list[Any]] = {"train_loss": [], "test_loss": [], "eigs": []}
    for event in made.experiment.run():
        match event:
            case Record(values=values):
                for name in kept.keys() & values.keys():
                    kept[name].append(values[name])
    return {name: np.array(rows) for name, rows in kept.items()}


@pytest.mark.parametrize("words", [FC, CNN, TEXT], ids=["fc-tanh", "cnn-relu", "transformer"])
def test_a_run_does_not_depend_on_its_chunks(words: dict[str, Any], tmp_path: Path) -> None:
    """In float64, so that forty steps leave of rounding no more than 1e-10."""
    whole, *others = (built(words, chunk, tmp_path) for chunk in CHUNKS)
    expected = numbers(whole)
    assert [len(rows) for rows in expected.values()] == [STEPS, STEPS, STEPS // 20]
    assert expected["train_loss"][-1] < 0.9 * expected["train_loss"][0]  # it went somewhere
    for other in others:
        assert other.folder == whole.folder
        for name, rows in numbers(other).items():
            assert rows == pytest.approx(expected[name], rel=1e-8 if name == "eigs" else 1e-10), name


def test_a_run_with_batchnorm_depends_on_its_chunks_and_its_folder_says_so(tmp_path: Path) -> None:
    runs = [built(NORMED, chunk, tmp_path) for chunk in CHUNKS]
    assert len({made.folder for made in runs}) == len(CHUNKS)
    for made, chunk in zip(runs, CHUNKS, strict=True):
        assert (f"physical_batch_size={chunk}" in made.folder.name) == (chunk != 1000)
        assert made.info["ghost_batches"]
        assert made.info["physical_batch_size"] == chunk
    whole, *others = map(numbers, runs)
    for other in others:
        for name, rows in other.items():
            assert rows[0] != pytest.approx(whole[name][0], rel=1e-5), name
