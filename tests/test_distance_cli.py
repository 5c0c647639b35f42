"""`limen distance`: what it prints, draws, writes and refuses, on stored runs with closed forms."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from limen import types
from limen.cli.main import main
from limen.dynamics.gd import GD
from limen.objectives import Quadratic
from limen.probes import Eigs, Iterates, Train
from limen.recipes import departure
from limen.run import Experiment
from limen.store import record
from limen.types import Schedule

H = torch.tensor([1.0, 12.0], dtype=torch.float64)
START = torch.tensor([1.0, 1e-6], dtype=torch.float64)
WORDS = {
    "dataset": "quadratic",
    "arch": "none",
    "loss": "mse",
    "seed": 0,
    "nproj": 400,
    "projection": "gaussian",
}


@dataclass(frozen=True)
class Exact(types.Dynamics):
    """The flow of a diagonal quadratic, w(t) = exp(−Ht) w₀."""

    tick: float
    name = "flow"

    def init(self, objective, w):
        return types.State(w, torch.zeros((), dtype=torch.float64))

    def step(self, point, state):
        return state.replace(w=torch.exp(-H * self.tick) * state.w, t=state.t + self.tick), {}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Descent at lr 0.2 (2/lr = 10 < 12: the second mode grows by 1.4 a step), and the flow every 0.4."""
    monkeypatch.chdir(tmp_path)
    objective = Quadratic(torch.diag(H), START)
    iterates = Iterates(400, Schedule(2))
    descent = Experiment(objective, GD(0.2), 41, [Train(), Eigs(1, schedule=Schedule(10)), iterates])
    flow = Experiment(objective, Exact(0.4), 21, [Train(), Iterates(400)])
    record("gd", descent, spec={**WORDS, "command": "gd", "opt": "gd", "lr": 0.2})
    record("flow", flow, spec={**WORDS, "command": "flow", "tick": 0.4})
    return tmp_path


def true(steps: np.ndarray) -> np.ndarray:
    steps, h = np.asarray(steps)[:, None], H.numpy()
    return np.linalg.norm(((1 - 0.2 * h) ** steps - np.exp(-0.2 * h * steps)) * START.numpy(), axis=1)


def test_distance_of_two_runs(runs, capsys):
    assert main(["distance", "gd", "flow", "--json", "new/d.json", "-o", "d.svg"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "time",
        "step",
        "distance",
        "95",
        "%",
        "band",
        "/",
        "displacement",
        "loss",
        "gap",
    ]
    table = [line.split() for line in lines[1:12]]
    assert [row[:2] for row in table] == [[f"{0.8 * i:.6g}", str(4 * i)] for i in range(11)]
    np.testing.assert_allclose([float(row[2]) for row in table], true(np.arange(0, 41, 4)), rtol=0.15)
    assert "400 random projections" in lines[12]
    assert "3.5 %" in lines[12]
    assert lines[13].startswith("crossed the threshold 10 at step 0 (time 0, sharpness 12")
    assert lines[-1] == "d.svg"
    assert (runs / "d.svg").read_text().startswith("<?xml")
    found = json.loads((runs / "new/d.json").read_text())
    assert (found["exact"], found["projections"], found["reference"]) == (False, 400, "flow")
    assert found["step"] == list(range(0, 41, 2))
    assert found["relative"][0] is None
    at = true(np.array(found["step"]))
    assert (np.array(found["low"]) <= at + 1e-12).all()
    assert (at <= np.array(found["high"]) + 1e-12).all()
    assert found["crossing"]["step"] == 0


def test_the_order_of_the_runs_does_not_matter_but_for_the_place_of_the_figure(runs, capsys):
    assert main(["distance", "gd", "flow"]) == 0
    one = capsys.readouterr().out.splitlines()
    assert main(["distance", "flow", "gd"]) == 0
    other = capsys.readouterr().out.splitlines()
    assert one[:-1] == other[:-1]
    assert (one[-1], other[-1]) == ("gd/distance.png", "flow/distance.png")
    assert (runs / "gd/distance.png").is_file()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["gd"], 2, "no recorded distance to 'flow'"),
        (["flow"], 2, "no recorded distance to 'tighter'"),
        (["gd", "gd"], 2, "no distance to draw"),
        (["gd", "flow", "-o", "a.jpg"], 2, "expected a file name ending in"),
        (["gd", "nowhere"], 1, "no run in nowhere"),
    ],
)
def test_refusals_are_one_message(runs, capsys, words, code, said):
    assert main(["distance", *words]) == code
    shown = capsys.readouterr()
    assert said in " ".join(shown.err.split())
    assert shown.out == ""


def test_json_that_cannot_be_written_says_so(runs, capsys):
    (runs / "file").write_text("")
    assert main(["distance", "gd", "flow", "--json", "file/d.json"]) == 1
    assert "cannot write 'file/d.json'" in " ".join(capsys.readouterr().err.split())


def test_recipes_are_listed_and_unknown_ones_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["recipe"]) == 0
    listed = capsys.readouterr().out
    assert "departure       Descent leaves the gradient flow" in listed
    assert "data sets: chebyshev-5-20, digits, cifar10-5k" in listed
    assert main(["recipe", "departur"]) == 2
    assert "Did you mean 'departure'?" in " ".join(capsys.readouterr().err.split())
    assert main(["recipe", "departure", "--dataset", "mnist"]) == 2
    assert "expected one of chebyshev-5-20" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dataset", departure.DATASETS)
def test_a_recipe_measures_both_runs_at_the_same_times(dataset):
    descent, flow = departure.specs(dataset)
    for freq in ("eig_freq", "iterate_freq"):
        assert descent.lr * getattr(descent, freq) == pytest.approx(
            flow.tick * getattr(flow, freq), rel=1e-12
        )
    assert flow.steps() == descent.max_steps // descent.iterate_freq
    for key in ("arch", "loss", "seed", "dtype", "nproj", "projection", "neigs"):
        assert getattr(descent, key) == getattr(flow, key)


def test_a_recipe_runs_draws_and_is_taken_up_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    short = dataclasses.replace(departure.PROBLEMS["chebyshev-5-20"], steps=40)
    monkeypatch.setitem(departure.PROBLEMS, "chebyshev-5-20", short)
    assert main(["recipe", "departure"]) == 0
    lines = capsys.readouterr().out.splitlines()
    commands = [line.removeprefix("$ limen ") for line in lines if line.startswith("$ limen ")]
    assert [words.split()[:6] for words in commands] == [
        ["gd", "chebyshev-5-20", "regression", "mse", "0.2", "40"],
        ["flow", "chebyshev-5-20", "regression", "mse", "2.0", "8.0"],
    ]
    figures = [tmp_path / line for line in lines[-2:]]
    made = [figure.read_bytes() for figure in figures]
    assert all(figure.startswith(b"\x89PNG") for figure in made)
    stored = {path: path.read_bytes() for path in tmp_path.rglob("scalars.jsonl")}
    assert len(stored) == 2
    assert main(["recipe", "departure", "--quiet"]) == 0
    assert [figure.read_bytes() for figure in figures] == made
    assert {path: path.read_bytes() for path in stored} == stored
    for words in commands:  # what was printed makes the same run
        assert main([*words.split(), "--results", "again", "--quiet"]) == 0
    again = {
        path.relative_to(tmp_path / "again"): path.read_bytes()
        for path in Path("again").absolute().rglob("scalars.jsonl")
    }
    assert again == {path.relative_to(tmp_path / "results"): data for path, data in stored.items()}
