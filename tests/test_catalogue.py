"""The catalogue: its rows are what the runs say, its index never matters, and a question can only ask."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_runs import make, study

import limen
from limen.catalogue import walk
from limen.catalogue.index import FILE, Catalogue
from limen.catalogue.row import records
from limen.cli.main import main
from limen.errors import InputError, StoreError
from limen.store import layout, lock
from limen.sweep.study import PLAN


def column(catalogue: Catalogue, name: str, **question) -> list:
    return [value for (value,) in catalogue.select([name], **question)]


@pytest.fixture
def folder(tmp_path) -> Path:
    return study(tmp_path / "results", (0.05, 0.1, 0.2, 0.4), seeds=2)


@pytest.fixture
def big(tmp_path) -> Path:
    """200 runs, enough for an index to be kept."""
    root = tmp_path / "big"
    for lr in range(1, 21):
        for seed in range(10):
            make(root / f"seed_{seed}" / f"lr_{lr / 100}", losses=[1.0, lr / 7], lr=lr / 100, seed=seed)
    return root


def test_a_row_is_what_the_run_says(tmp_path):
    tops = [0.5, 0.9, 1.1, 1.04, 0.98, 1.02, 1.01, 0.97]
    losses = [1 / (1 + step) for step in range(80)]
    make(tmp_path / "a", losses, tops, every=10, lr=0.25, model={"width": 30, "act": "relu"}, data={"n": 5})
    (row,) = Catalogue(tmp_path).table()
    assert (row["run"], row["status"], row["lr"], row["model.width"], row["data.n"]) == (
        "a", "finished", 0.25, 30, 5,
    )  # fmt: skip
    assert (row["save_model"], row["beta"], row["error"]) == (False, None, None)
    assert (row["steps"], row["max_steps"], row["step"]) == (80, 80, 79)
    assert (row["train_loss"], row["products"], row["crossing"]) == (1 / 80, 7.0, 20)
    assert row["sharpness"] == 0.97 * 8
    assert row["edge"] == pytest.approx((1.01 + 0.97) / 2, rel=1e-14)  # the last two of eight


def test_a_row_agrees_with_the_run_read_line_by_line(folder):
    run = limen.open_run(folder / "seed_0" / "lr_0.1")
    path = run.folder / "scalars.jsonl"
    odd = [
        {"probe": "mine", "step": 1, "t": 0.1, "values": {"m1": "inf", "m_2": -1e-7}},
        {"probe": "mine", "step": 2, "t": 0.2, "values": {"m1": 3}},
        {"branch": "flow", "probe": "eigs", "step": 2, "t": 0.2, "values": {"eigs": [1e9], "m1": "nan"}},
        {"probe": "mine", "step": 2, "t": 0.2, "values": {"m3": "-inf"}},
    ]
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in odd)
        file.write('{"probe": "torn')
    np.testing.assert_equal(records(path, run.threshold), run.summary())


def test_a_damaged_line_is_told(folder):
    path = folder / "seed_0" / "lr_0.1" / "scalars.jsonl"
    for damage in (b"\0\0\0\n", b'{"probe": "train"}\n', b'{"step": 1, "values": {"eigs": [{}]}}\n'):
        whole = path.read_bytes()
        path.write_bytes(damage + whole)
        with pytest.raises(StoreError, match="line is damaged"):
            records(path, 20.0)
        path.write_bytes(whole)


def test_the_walk_finds_what_the_store_finds(folder):
    make(folder / "seed_0" / "lr_0.1" / "inner", lr=0.3)
    make(folder / "seed_0" / "lr_0.1" / "checkpoints" / "no", lr=0.3)
    assert set(walk.stamps(folder)) == {
        run.folder.relative_to(folder).as_posix() for run in limen.find_runs(folder)
    }
    names = (layout.MANIFEST, layout.SCALARS, layout.temporary(Path(layout.MANIFEST)).name)
    assert names == (walk.MANIFEST, walk.SCALARS, walk.HALF)
    assert {layout.SERIES, layout.CHECKPOINTS, layout.ASIDE} == walk.PRIVATE


def test_only_what_changed_is_read_again(big):
    assert Catalogue(big).changed == 200
    assert Catalogue(big).changed == 0
    path = big / "seed_3" / "lr_0.05"
    with (path / "scalars.jsonl").open("a") as file:
        file.write('{"probe": "train", "step": 2, "t": 0.1, "values": {"train_loss": 42.0}}\n')
    make(big / "new", lr=0.7, fresh="yes")
    for file in (big / "seed_4" / "lr_0.05").iterdir():
        file.unlink()
    after = Catalogue(big)
    assert (after.changed, len(after)) == (3, 200)
    assert column(after, "run", where="train_loss = 42") == ["seed_3/lr_0.05"]
    assert column(after, "run", where="fresh = 'yes'") == ["new"]
    assert column(after, "run", where="seed = 4 and lr = 0.05") == []
    assert Catalogue(big).changed == 0


def test_few_runs_leave_no_file_behind(folder):
    assert len(Catalogue(folder)) == 8
    assert not (folder / FILE).exists()


DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "no database": lambda path: path.write_bytes(b"hello" * 10000),
    "one byte": lambda path: path.write_bytes(
        (data := path.read_bytes())[:9000] + bytes([data[9000] ^ 1]) + data[9001:]
    ),
    "a folder": lambda path: (path.unlink(), path.mkdir(), (path / "x").touch()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_made_anew(big, damage):
    before = Catalogue(big).table()
    DAMAGES[damage](big / FILE)
    after = Catalogue(big)
    assert (after.changed, after.table()) == (200, before)
    assert Catalogue(big).changed == (0 if damage != "a folder" else 200)
    assert not list(big.glob("*.tmp"))


def test_an_index_of_another_version_is_made_anew(big, monkeypatch):
    Catalogue(big)
    monkeypatch.setattr("limen.catalogue.index.VERSION", 99)
    assert Catalogue(big).changed == 200


@pytest.mark.skipif(os.name == "nt", reason="folders that may not be written are another matter there")
def test_results_that_cannot_be_written_are_listed(big, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert len(Catalogue(big)) == 200
    assert not (big / FILE).exists()


def test_a_killed_run_does_not_have_the_index_written_at_each_use(big, monkeypatch):
    path = big / "seed_3" / "lr_0.05"
    text = (path / "run.json").read_text()
    (path / "run.json").write_text(text.replace('"finished"', '"running"'))
    question = {"where": "run = 'seed_3/lr_0.05'"}
    assert column(Catalogue(big), "status", **question) == ["interrupted"]
    written = (big / FILE).stat().st_ino
    after = Catalogue(big)
    assert (after.changed, column(after, "status", **question)) == (0, ["interrupted"])
    assert (big / FILE).stat().st_ino == written
    with lock.writing(path):
        for changed in (1, 0):
            after = Catalogue(big)
            assert (after.changed, column(after, "status", **question)) == (changed, ["running"])
    after = Catalogue(big)
    assert (after.changed, column(after, "status", **question)) == (1, ["interrupted"])


def the_study(results: Path, runs: list[str]) -> Path:
    """A study of some of the runs in a folder of results."""
    folder = results / "studies" / "mine"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps({"format": 1, "points": [{"run": run} for run in runs]}))
    return folder


def test_a_study_is_its_runs(folder, tmp_path, capsys):
    make(tmp_path / "elsewhere" / "lr_7", lr=7.0)
    listed = ["seed_0/lr_0.05", "seed_1/lr_0.1", "seed_0/not_begun", "../elsewhere/lr_7"]
    mine = the_study(folder, listed)
    assert walk.STUDY == PLAN
    found = ["../elsewhere/lr_7", "seed_0/lr_0.05", "seed_1/lr_0.1"]
    assert column(Catalogue(mine), "run") == found
    assert Catalogue(mine).folders("lr < 1") == [folder / run for run in found[1:]]
    runs = limen.open_runs(mine, "lr < 1")
    assert [run.spec["lr"] for run in runs] == [0.05, 0.1]
    assert main(["ls", str(mine), "--columns", "lr, run"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "7     ../elsewhere/lr_7",
        "0.05  seed_0/lr_0.05",
        "0.1   seed_1/lr_0.1",
    ]
    assert main(["export", str(mine), "--to", "npz"]) == 0
    with np.load(mine / "export.npz") as arrays:
        assert len(json.loads(str(arrays["runs"]))) == 3
    assert main(["plot", str(mine)]) == 0
    assert main(["plot", str(mine), "--over", "lr", "--quantity", "train_loss"]) == 0
    assert {path.name for path in mine.iterdir()} == {"study.json", "export.npz", "curves.png", "over_lr.png"}
    assert len(Catalogue(folder)) == 8  # and no run lies in the study's folder
    capsys.readouterr()
    (mine / "study.json").write_text('{"points": [')
    assert main(["ls", str(mine)]) == 1
    assert "Run the sweep again" in capsys.readouterr().err


def test_a_half_written_run_is_listed_as_such(folder, capsys):
    (folder / "seed_0" / "lr_0.1" / "run.json").unlink()
    text = (folder / "seed_0" / "lr_0.2" / "run.json").read_text()
    (folder / "seed_0" / "lr_0.2" / "run.json").write_text(text[:100])
    (folder / "begun").mkdir()
    (folder / "begun" / ".run.json.tmp").write_text("{")
    path = folder / "seed_1" / "lr_0.1" / "run.json"
    path.write_text(path.read_text().replace("finished", "running"))
    assert main(["ls", str(folder)]) == 0
    rows = {line.split()[4]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert len(rows) == 9
    for name in ("seed_0/lr_0.1", "begun"):
        assert rows[name].startswith("failed")
        assert "half-written" in rows[name]
    assert "cannot be read" in rows["seed_0/lr_0.2"]
    assert rows["seed_1/lr_0.1"].startswith("interrupted")
    with lock.writing(folder / "seed_1" / "lr_0.1"):
        # not in its files, but in its lock, is that it runs
        assert column(Catalogue(folder), "status", where="run = 'seed_1/lr_0.1'") == ["running"]


def test_questions(folder):
    catalogue = Catalogue(folder)
    assert column(catalogue, "lr", where="lr > 0.1 and status == 'finished' and seed = 0") == [0.2, 0.4]
    assert column(catalogue, "lr", where='"status" == "finished" and not lr <= .3', limit=1) == [0.4]
    assert column(catalogue, "lr", where="beta is None and seed in (1)", sort="lr desc") == [
        0.4, 0.2, 0.1, 0.05,
    ]  # fmt: skip
    assert column(catalogue, "run", sort="seed desc, lr", limit=2) == ["seed_1/lr_0.05", "seed_1/lr_0.1"]
    assert column(catalogue, "lr/2-0.1*3", where="lr = 0.4") == [0.4 / 2 - 0.1 * 3] * 2
    assert column(catalogue, "steps/2", where="lr=0.4") == [1.5, 1.5]  # as in Python, not as in SQL
    assert column(catalogue, "max(lr, seed)", where="lr = 0.4", sort="seed") == [0.4, 1]
    assert column(catalogue, "run", where="run like '%_1/lr_0.4'") == ["seed_1/lr_0.4"]
    assert column(catalogue, "lr", where="1 = 2") == []
    assert column(catalogue, "lr", where="(0.05 < lr) == (lr < 0.3) and seed = 0") == [0.1, 0.2]
    assert column(catalogue, "lr", where="lr between 0.1 and 0.3 and 0 < seed") == [0.1, 0.2]


def test_nothing_equals_nothing_and_differs_from_all_else(tmp_path):
    make(tmp_path / "a", beta=0.9, width=3)
    make(tmp_path / "b", beta=None)
    catalogue = Catalogue(tmp_path)
    for question, found in {
        "beta == none": ["b"],
        "none = beta": ["b"],
        "beta == (null)": ["b"],
        "beta != none": ["a"],
        "beta <> None": ["a"],
        "not beta == 0.9": ["b"],
        "width != 4": ["a", "b"],
        "width != 3": ["b"],
        "width == 3 and beta != None": ["a"],
        "beta is not none": ["a"],
    }.items():
        assert column(catalogue, "run", where=question) == found, question


def test_dotted_words_and_branches_are_columns(tmp_path):
    path = make(tmp_path / "a", model={"width": 8}, lr=0.5)
    with (path / "scalars.jsonl").open("a") as file:
        file.write('{"branch": "flow", "probe": "p", "step": 2, "t": 1, "values": {"distance": 3.0}}\n')
    make(tmp_path / "b", model={"width": 4})
    catalogue = Catalogue(tmp_path)
    assert column(catalogue, "model.width/lr", where="model.width > 5") == [16.0]
    assert column(catalogue, "run", where="flow/distance = 3 and MODEL.WIDTH = 8") == ["a"]
    assert column(catalogue, "run", sort="flow/distance desc") == ["a", "b"]
    assert column(catalogue, "run", sort="flow/distance") == ["a", "b"]  # without a value: last either way


@pytest.mark.parametrize(
    ("question", "fragment"),
    [
        ("statsu == 'finished'", "Did you mean 'status'?"),
        ("status == finished", "Text stands in quotes: 'finished'"),
        ("lr >", "expected expressions such as"),
        ("0.01 < lr < 0.07", "as in `0.01 < lr and lr < 0.07`"),
        ("seed = 0 and (1 and lr > 0.1 == 0)", "got several in a row"),
        ("0 < seed in (0, 1)", "got several in a row"),
        ("status == not 'x'", "expected a value after '=='"),
        ("", "it is empty"),
        ("(lr > 1", "a parenthesis is not closed"),
        ("1) or (1", "a parenthesis is not closed, or not opened"),
        ("lr > 1; drop table runs", "cannot be read from '; drop table runs' on"),
        ("lr in (select run from stamps)", "no column 'select'"),
        ("1 union select 1", "no column 'union'"),
        ("lr -- a comment", "no column 'a'"),
        ("load_extension('x')", "no column 'load_extension'"),
        ("randomblob(1000000000)", "no column 'randomblob'"),
        ("stamps.stamp", "no column 'stamps.stamp'"),
    ],
)
def test_a_question_that_is_none_is_refused(folder, question, fragment):
    catalogue = Catalogue(folder)
    with pytest.raises(InputError) as raised:
        catalogue.select(["run"], where=question)
    assert fragment in str(raised.value)
    assert len(catalogue) == 8


def test_behind_the_check_the_connection_only_reads_the_runs(folder, monkeypatch):
    catalogue = Catalogue(folder)
    monkeypatch.setattr("limen.catalogue.query.Query._expression", lambda self, text, where: text)
    for attack in ("(select stamp from stamps)", "load_extension('x')", "(select sql from sqlite_master)"):
        with pytest.raises(InputError):
            catalogue.select(["run"], where=attack)
    with pytest.raises((InputError, sqlite3.Warning, sqlite3.ProgrammingError)):
        catalogue.select(["run"], where="1); DELETE FROM runs; SELECT (1")
    assert len(catalogue) == 8


def test_ls_shows_the_columns_asked_for(folder, capsys):
    assert main(["ls", str(folder), "--columns", "lr, round(lr*steps, 2), run", "--sort", "lr desc",
                 "--where", "seed = 1", "--limit", "2"]) == 0  # fmt: skip
    assert capsys.readouterr().out.splitlines() == [
        "lr   round(lr*steps, 2)  run",
        "0.4  1.2                 seed_1/lr_0.4",
        "0.2  0.6                 seed_1/lr_0.2",
    ]
    assert main(["ls", str(folder), "--limit", "-1"]) == 2
    assert "limit: expected a whole number" in capsys.readouterr().err


def test_ls_of_a_known_folder_loads_neither_torch_nor_numpy(big):
    Catalogue(big)
    code = (
        "import sys; from limen.cli.main import main; main(['ls', sys.argv[1], '--limit', '1'])\n"
        "assert not {'torch', 'numpy', 'pandas', 'xarray'} & set(sys.modules), sorted(sys.modules)"
    )
    surroundings = os.environ | {"PYTHONPATH": str(Path(limen.__file__).parent.parent.absolute())}
    subprocess.run([sys.executable, "-c", code, str(big)], env=surroundings, check=True, capture_output=True)


def test_open_runs_is_a_table(folder):
    pandas = pytest.importorskip("pandas")
    runs = limen.open_runs(folder, "lr < 0.3")
    table = runs.table
    assert isinstance(table, pandas.DataFrame)
    assert (len(runs), table.index[0], table.index.name) == (6, "seed_0/lr_0.05", "run")
    assert table.groupby("lr")["seed"].sum().to_dict() == {0.05: 1, 0.1: 1, 0.2: 1}
    assert sorted(runs.differing) == ["lr", "seed"]
    assert [run.spec["lr"] for run in runs] == table["lr"].tolist()
    assert table["save_model"].dtype == bool


def test_series_are_aligned_over_runs(tmp_path):
    pytest.importorskip("xarray")
    make(tmp_path / "a", [1, 2, 3, 4], [0.5, 0.75], every=2, lr=0.5)
    make(tmp_path / "b", [5, 6], lr=0.25)
    data = limen.open_runs(tmp_path).series("train_loss", "eigs")
    nan = np.nan
    assert dict(data.sizes) == {"run": 2, "step": 4, "eigs_axis": 2}
    np.testing.assert_array_equal(data["train_loss"], [[1, 2, 3, 4], [5, 6, nan, nan]])
    np.testing.assert_array_equal(data["eigs"][0, :, 0], [2.0, nan, 3.0, nan])
    assert np.isnan(data["eigs"][1]).all()
    np.testing.assert_array_equal(data["t"], [[0, 0.5, 1, 1.5], [0, 0.25, nan, nan]])
    np.testing.assert_array_equal(data["threshold"], [4, 8])
    assert data["lr"].dims == ("run",)
    assert float(data.sel(run="b", step=1)["train_loss"]) == 6
    with pytest.raises(InputError, match="Did you mean 'train_loss'"):
        limen.open_runs(tmp_path).series("trainloss")


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('ray', 'submitit', 'pandas', 'xarray', 'pyarrow', 'h5netcdf', 'h5py'):
            raise ImportError(name + ' is blocked')
sys.meta_path.insert(0, Block())
from limen.cli.main import main
for line in sys.argv[1:]:
    print(main(line.split()), flush=True)
"""


def test_the_core_runs_without_the_extras(tmp_path):
    lines = [
        "gd digits fc-tanh mse 0.1 3 --data.n 50 --neigs 1 --eig_freq 1 --quiet",
        "ls --where lr>0 --columns steps",
        "plot results/digits/fc-tanh/seed_0/mse/gd/lr_0.1__data.n=50",
        "plot results --over lr",
        *(f"export results --to {kind}" for kind in ("npz", "csv", "torch", "parquet", "netcdf")),
    ]
    surroundings = os.environ | {"PYTHONPATH": str(Path(limen.__file__).parent.parent.absolute())}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *lines],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        check=True,
    )
    statuses = [int(word) for word in done.stdout.split("\n") if word in ("0", "1", "2")]
    assert statuses == [0] * 7 + [2] * 2, done.stderr
    assert "steps\n3\n" in done.stdout
    refused = done.stderr.splitlines()[-2:]
    for line, package in zip(refused, ("pyarrow", "h5netcdf"), strict=True):
        assert package in line
        assert "pip install 'limen[study]'" in line
