"""Exports hold the same numbers as the runs, in every format."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_runs import make
from safetensors.numpy import save_file

import limen
from limen.cli.main import main


@pytest.fixture
def results(tmp_path) -> Path:
    make(tmp_path / "r" / "a", [1, 2, 0.1 + 0.2], [0.5, 0.75], every=2, lr=0.5)
    make(tmp_path / "r" / "b", [5, float("inf")], lr=0.25, status="diverged")
    return tmp_path / "r"


def exported(capsys, *words: object) -> Path:
    assert main(["export", *map(str, words)]) == 0
    return Path(capsys.readouterr().out.strip())


def test_npz(results, capsys):
    file = exported(capsys, results, "--to", "npz")
    assert file == results / "export.npz"
    data = np.load(file)
    run = limen.open_run(results / "a")
    for name in run.names():
        series = run.series(name)
        np.testing.assert_array_equal(data[f"a/{name}"], series.values)
        np.testing.assert_array_equal(data[f"a/{name}.step"], series.steps)
        np.testing.assert_array_equal(data[f"a/{name}.t"], series.t)
    about = json.loads(str(data["runs"]))
    assert (about["b"]["spec"]["lr"], about["b"]["status"]) == (0.25, "diverged")


def test_one_run_needs_no_prefix(results, capsys, tmp_path):
    file = exported(capsys, results / "a", "--to", "npz", "-o", tmp_path / "new" / "x.npz")
    assert np.load(file)["train_loss"].tolist() == [1, 2, 0.1 + 0.2]


def test_torch(results, capsys):
    data = torch.load(exported(capsys, results, "--to", "torch"), weights_only=True)
    loss = data["b"]["series"]["train_loss"]
    assert (loss["step"].tolist(), loss["values"].tolist()) == ([0, 1], [5, float("inf")])
    assert data["a"]["series"]["eigs"]["values"].shape == (2, 2)
    assert data["a"]["threshold"] == 4.0


def test_csv_gives_back_the_same_floats(results, capsys):
    file = exported(capsys, results, "--to", "csv", "--names", "train_loss,eigs")
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["run", "lr", "step", "t", "train_loss", "eigs.0", "eigs.1"]
    assert [float(row["train_loss"]) for row in rows] == [1, 2, 0.1 + 0.2, 5, float("inf")]
    assert [row["eigs.0"] for row in rows] == ["2.0", "", "3.0", "", ""]  # not measured is empty
    assert [(row["run"], row["step"], row["lr"]) for row in rows][2:4] == [
        ("a", "2", "0.5"),
        ("b", "0", "0.25"),
    ]


def test_parquet(results, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(exported(capsys, results, "--to", "parquet"))
    assert table["train_loss"].to_pylist() == [1, 2, 0.1 + 0.2, 5, float("inf")]
    assert table["eigs.0"].to_pylist() == [2.0, None, 3.0, None, None]
    assert json.loads(table.schema.metadata[b"runs"])["a"]["spec"]["lr"] == 0.5


def test_netcdf(results, capsys):
    pytest.importorskip("h5py")
    xarray = pytest.importorskip("xarray")
    with (results / "a" / "scalars.jsonl").open("a") as file:
        file.write('{"branch": "flow", "probe": "p", "step": 2, "t": 1.0, "values": {"distance": 3.0}}\n')
    file = exported(capsys, results, "--to", "netcdf")
    with xarray.open_dataset(file, engine="h5netcdf") as data:
        expected = limen.open_runs(results).series("train_loss", "eigs")
        np.testing.assert_array_equal(data["train_loss"], expected["train_loss"])
        np.testing.assert_array_equal(data["eigs"], expected["eigs"])
        assert float(data["flow.distance"].sel(run="a", step=2)) == 3.0
        assert json.loads(data.attrs["runs"])["b"]["status"] == "diverged"


def test_recorded_tensors_are_columns_up_to_a_width(results, capsys):
    folder = results / "a" / "series" / "iterates"
    folder.mkdir(parents=True)
    values = np.arange(4, dtype=np.float32).reshape(2, 2)
    block = {"step": np.array([0, 2]), "t": np.array([0.0, 1.0]), "values": values}
    save_file(block, folder / "0.safetensors")
    file = exported(capsys, results / "a", "--to", "csv", "--names", "iterates")
    assert file.read_text() == "run,step,t,iterates.0,iterates.1\na,0,0.0,0.0,1.0\na,2,1.0,2.0,3.0\n"
    wide = np.zeros((2, 1001), dtype=np.float32)
    save_file(block | {"values": wide}, folder / "0.safetensors")
    assert main(["export", str(results / "a"), "--to", "csv", "--overwrite"]) == 2
    assert "1,001 numbers a step" in capsys.readouterr().err
    assert np.load(exported(capsys, results / "a", "--to", "npz"))["iterates"].shape == (2, 1001)


def test_nothing_is_overwritten_unasked(results, capsys):
    file = exported(capsys, results, "--to", "csv")
    file.write_text("mine")
    assert main(["export", str(results), "--to", "csv"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert file.read_text() == "mine"
    exported(capsys, results, "--to", "csv", "--overwrite")
    assert file.read_text().startswith("run,")


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["--to", "xlsx"], "expected npz or csv or parquet or netcdf or torch"),
        (["--to", "csv", "--names", "train_los"], "no run has records of 'train_los'"),
        (["--to", "csv", "--where", "lr > 7"], "no run that fits 'lr > 7'"),
        (["nowhere", "--to", "csv"], "no folder of results at nowhere"),
    ],
)
def test_refusals(results, capsys, words, fragment):
    assert main(["export", str(results), *words]) == 2
    assert fragment in capsys.readouterr().err


def test_runs_of_several_folders_are_taken_once(results, capsys, tmp_path):
    make(tmp_path / "other", [9.0], lr=0.125)
    words = [results, results / "a", tmp_path / "other", "--to", "csv", "--names", "train_loss"]
    file = exported(capsys, *words, "-o", tmp_path / "x.csv")
    labels = [line.split(",")[0] for line in file.read_text().splitlines()]
    assert labels == ["run", "r/a", "r/a", "r/a", "r/b", "r/b", "other"]
