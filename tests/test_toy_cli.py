"""`limen toy` from the command line: figure, verdict, arrays, refusals; and the figures from arrays alone."""

from __future__ import annotations

import inspect
import json
import math
import subprocess
import sys
import typing

import numpy as np
import pytest
from PIL import Image

from limen.cli import toy as cli
from limen.cli.main import main
from limen.errors import InputError
from limen.plots.toys import DRAW, toy
from limen.toys import (
    Check,
    Outcome,
    neuron,
    quadratic,
    quartic,
    teacher_student,
    teacher_student_general,
    two_neurons,
    uv,
)

SHORT = ["quartic", "--zetas", "0.5:2.5:5", "--paths", "200", "--dt", "0.01", "--snapshots", "0,500,1000"]


def test_a_system_makes_figure_verdict_and_arrays(tmp_path, capfd):
    figure = tmp_path / "new" / "well.png"
    assert main(["toy", *SHORT, "-o", str(figure), "--arrays", str(tmp_path / "well.npz")]) == 0
    said = capfd.readouterr()
    assert "the theory holds" in said.out
    assert str(figure) in said.out
    assert said.err == ""  # no progress bar where there is no terminal
    with Image.open(figure) as image:
        assert image.width == 1050  # one column at 300 dots an inch
    verdict = json.loads(figure.with_suffix(".json").read_text())
    assert verdict["holds"] is True
    assert verdict["parameters"]["zetas"] == [0.5, 1.0, 1.5, 2.0, 2.5]
    named = {check["name"]: check for check in verdict["checks"]}
    check = named["exponent at zeta=1"]
    assert abs(check["measured"] - check["predicted"]) <= 3 * check["error"]
    with np.load(tmp_path / "well.npz") as arrays:
        assert arrays["fraction"].shape == (3, 5)


def test_the_same_seed_draws_the_same_figure(tmp_path):
    pictures = []
    for threads in ("1", "2"):
        figure = tmp_path / f"{threads}.png"
        words = ["neuron", "--etas", "0.5,2,4", "--paths", "20", "--times", "1", "--dt", "0.02"]
        main(["toy", *words, "-o", str(figure), "--threads", threads])
        pictures.append(figure.read_bytes())
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("quartic --zetas=-1", "noise must be finite and at least 0, got -1.0"),
        ("quartic --dt 1", "must be below 0.0203"),
        ("quartic --zetas 1:2", "FROM:TO:COUNT"),
        ("quartic --snapshots 0,1.5", "expected whole numbers"),
        ("quartic --snapshots 0,nan", "expected finite numbers"),
        ("quartic --snapshots=-5", "snapshots"),
        ("quartic --arrays well.txt", "ending in .npz"),
        ("quartic --json missing.txt/well.json -o well.png --arrays well.png", "ending in .npz"),
        ("quartic -o well.png --json well.png", "need a file each"),
        ("neuron --times=-1", "times"),
        ("neuron --times inf", "expected finite numbers"),
        ("quadratic --starts 0", "starts must be at least 1, got 0"),
        ("uv --width 0", "width must be at least 1, got 0"),
        ("quartic -o well.txt", ".png, .pdf or .svg"),
        ("quartic --dtype half", "expected float64 or float32"),
        ("neuron --activation rleu", "Did you mean"),
        ("two-neurons --momentum 1", "momentum must lie in"),
        ("teacher-student --batches 1", "batches is for the general student"),
        ("teacher-student --general --sigmas 1", "sigmas is for the diagonal student"),
        ("teacher-student --drop_at 1,2", "the diagonal student has one drop"),
        ("uv --rates 10", "beyond stability"),
        ("quadratic --lr 5", "beyond stability"),
    ],
)
def test_bad_words_are_refused_before_any_work(words, said, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["toy", *words.split()]) == 2
    assert said in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_files_that_cannot_be_written_are_refused_before_any_work(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("limen.toys.quartic.run", lambda **_: pytest.fail("it was run"))
    (tmp_path / "file").write_text("")
    for words in (["--json", "file/well.json"], ["--arrays", "file/well.npz"], ["-o", "file/well.png"]):
        monkeypatch.chdir(tmp_path)
        assert main(["toy", "quartic", *words]) == 1
        assert "Name a file in a folder you may write to" in capfd.readouterr().err
    (tmp_path / "folder").mkdir()
    assert main(["toy", "quartic", "--json", "folder"]) == 1
    assert "it is a folder" in capfd.readouterr().err


def test_what_could_not_be_judged_is_told_as_such(capfd):
    outcome = Outcome("uv", {}, {}, [Check.skip("a number", "no run ended")])
    assert cli._report(outcome, 1.0) == [
        "not judged: a number: no run ended",
        "no check could be made: the theory is not judged (1.0 s)",
    ]


def test_what_is_not_a_number_heads_the_report():
    checks = [Check("fine", 1.0, 1.0, 0.1), Check("lost", math.nan, 1.0, 0.1), Check("off", 2.0, 1.0, 0.1)]
    report = cli._report(Outcome("uv", {}, {}, checks), 1.0)
    assert [row.split()[-1] for row in report[2:5]] == ["lost", "off", "fine"]
    assert "3 checks, 2 beyond" in report[-1]


LISTS = [
    (cli.quartic, quartic, {"zetas": "zetas", "snapshots": "snapshots"}),
    (cli.neuron, neuron, {"times": "times"}),
    (cli.two_neurons, two_neurons, {"lrs": "lrs", "sigmas": "sigmas"}),
    (cli.teacher_student, teacher_student, {"sigmas": "sigmas", "phases": "phases"}),
    (cli.teacher_student, teacher_student_general, {"batches": "batches"}),
    (cli.uv, uv, {"rates": "rates"}),
    (cli.quadratic, quadratic, {"asymmetries": "asymmetries"}),
]


@pytest.mark.parametrize(("command", "system", "lists"), LISTS)
def test_the_help_says_the_published_values(command, system, lists):
    options = typing.get_type_hints(command, include_extras=True)
    taken = inspect.signature(system.run).parameters
    for option, name in lists.items():
        said = options[option].__metadata__[0].help.split("(default: ")[1].rstrip(").")
        assert cli._floats(said, option) == pytest.approx(taken[name].default), option


def test_a_theory_that_fails_is_told_and_exits_1(tmp_path, monkeypatch, capfd):
    real = uv.run

    def wrong(**words):
        outcome = real(**words)
        bad = Check("a number", 1.0, 2.0, 0.1)
        return Outcome(outcome.system, outcome.parameters, outcome.arrays, [*outcome.checks, bad])

    monkeypatch.setattr(uv, "run", wrong)
    monkeypatch.chdir(tmp_path)
    # signature of `real`, so that the command passes its words on
    wrong.__signature__ = inspect.signature(real)
    assert main(["toy", "uv", "--rates", "0.5,1", "--width", "16", "--seeds", "2", "--steps", "30"]) == 1
    assert "THE THEORY DOES NOT HOLD" in capfd.readouterr().out
    assert json.loads((tmp_path / "toy_uv.json").read_text())["holds"] is False


def test_numbers_are_read_as_lists_and_as_ranges():
    assert cli._floats("1,2.5", "x") == [1.0, 2.5]
    assert cli._floats("0:1:3", "x") == [0.0, 0.5, 1.0]
    assert cli._floats(None, "x") is None
    with pytest.raises(InputError, match="COUNT of at least 2"):
        cli._floats("0:1:1", "x")


@pytest.mark.parametrize(
    "words",
    [
        "neuron --etas 0.5,2,4 --paths 50 --times 2 --dt 0.02",
        "two-neurons --lrs 0.1,0.2 --sigmas 0,0.4 --steps 1000 --seeds 4",
        "teacher-student --seeds 64 --steps 1200 --drop_at 1000 --phases 100 --sigmas 0,10",
        "uv --rates 0.5:4.5:9 --width 32 --seeds 4 --steps 100",
        "quadratic --asymmetries 1,0.1 --starts 50 --steps 300",
    ],
)
def test_every_system_draws(words, tmp_path, capfd):
    figure = tmp_path / "toy.svg"
    assert main(["toy", *words.split(), "-o", str(figure)]) in (0, 1)
    assert figure.read_text().count("<path") > 20
    assert json.loads(figure.with_suffix(".json").read_text())["parameters"]


def test_the_general_student_draws(tmp_path):
    short = {"steps": 40, "record": 10, "drops_at": (30,), "warm_up": 0.05, "warm_up_steps": 10}
    outcome = teacher_student_general.run(batches=(1, 32), examples=32, n=8, rank=2, **short)
    toy(outcome, tmp_path / "general.png")
    assert (tmp_path / "general.png").stat().st_size > 10_000
    assert outcome.system in DRAW


def test_help_imports_no_torch():
    code = (
        "import sys; from limen.cli.main import main; main(['toy', '--help']); print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[-1] == "False"
