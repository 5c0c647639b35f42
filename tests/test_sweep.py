"""Sweeps: what is asked becomes points, and the driver copes with whatever comes back; no process is started here."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from limen import open_runs
from limen.cli.main import main
from limen.config import FinetuneSpec, FlowSpec, GDSpec, TrainSpec
from limen.errors import InputError, StoreError
from limen.launch import launch
from limen.store import layout, lock, open_run
from limen.sweep import axes, cost, drive, plan, study, work
from limen.sweep.executors import Executor, died
from limen.sweep.executors.choose import ENGINES, Wish, choose
from limen.sweep.work import BUSY, Job, Outcome, Place, perform
from limen.types import Mark, Status

WORDS = ["gd", "chebyshev-3-20", "regression", "mse"]
NET = ["gd", "digits", "fc-tanh", "mse"]
BASE = {"dataset": "chebyshev-3-20", "arch": "regression", "loss": "mse", "max_steps": 3}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def points(*words: str) -> list[plan.Point]:
    return plan.expand(plan.from_words([*WORDS, *words])).points


def varied(content: dict, *names: str) -> list[tuple]:
    """The values of `names` at every point of a file, in its order."""
    found = plan.expand(plan.from_mapping({"command": "gd", "base": BASE, **content}, "file")).points
    return [tuple(getattr(point.spec, name) for name in names) for point in found]


# What is asked.


def test_words_make_the_product_with_the_last_axis_fastest():
    found = points("lr=0.05,0.1", "max_steps=3", "seed=0..2", "--neigs", "1", "--eig-freq=2")
    assert [(p.spec.lr, p.spec.seed) for p in found] == [
        (0.05, 0),
        (0.05, 1),
        (0.05, 2),
        (0.1, 0),
        (0.1, 1),
        (0.1, 2),
    ]
    assert {(p.spec.neigs, p.spec.eig_freq, p.spec.max_steps) for p in found} == {(1, 2, 3)}
    assert found[4].label == "lr=0.1 seed=1"
    assert found[4].folder == found[4].spec.folder()


def test_words_without_a_name_fill_the_places_of_the_command_that_are_free():
    (one,) = points("lr=0.1", "7")
    assert (one.spec.lr, one.spec.max_steps) == (0.1, 7)
    assert [p.spec.lr for p in points("0.1,0.2", "7")] == [0.1, 0.2]


def test_a_dotted_name_and_a_switch():
    found = plan.expand(
        plan.from_words([*NET, "0.1", "2", "model.width=4,8", "--save_model", "--data.n", "50"])
    ).points
    assert [p.spec.model for p in found] == [{"width": 4}, {"width": 8}]
    assert all(p.spec.save_model and p.spec.data == {"n": 50} for p in found)


def test_any_command_with_a_spec_can_be_swept():
    known = {"gd": GDSpec, "flow": FlowSpec, "train": TrainSpec, "finetune": FinetuneSpec}
    assert plan.commands() == known
    found = plan.expand(plan.from_words(["flow", *WORDS[1:], "1,2", "4"])).points
    assert [(p.spec.tick, p.spec.max_time) for p in found] == [(1, 4), (2, 4)]


def test_linear_and_log_are_the_formulas():
    linear, log = axes.of_word("lr", "linear:0.1:0.5:5"), axes.of_word("lr", "log:1e-3:1:7")
    for i in range(5):
        assert math.isclose(linear[i], 0.1 + 0.4 * i / 4, rel_tol=1e-11)
    for i in range(7):
        assert math.isclose(math.log10(log[i]), -3 + 3 * i / 6, abs_tol=1e-11)
    assert (log[0], log[6]) == (1e-3, 1.0)


def test_a_file_says_the_same_as_words():
    words = plan.expand(plan.from_words([*WORDS, "lr=log:0.01:1:3", "seed=0..1", "max_steps=3"]))
    content = {"command": "gd", "base": BASE, "grid": {"lr": {"log": [0.01, 1, 3]}}, "replicates": 2}
    file = plan.expand(plan.from_mapping(content, "file"))
    assert [p.spec for p in file.points] == [p.spec for p in words.points]
    assert file.folder == words.folder


def test_zip_puts_values_side_by_side():
    content = {"zip": {"lr": [0.1, 0.2], "seed": {"range": [5, 7]}}}
    assert varied(content, "lr", "seed") == [(0.1, 5), (0.2, 6)]


def test_points_override_the_base_each_in_its_own_options():
    content = {"points": [{"lr": 0.1}, {"lr": 0.4, "max_steps": 9}], "replicates": 2}
    assert varied(content, "lr", "max_steps", "seed") == [(0.1, 3, 0), (0.1, 3, 1), (0.4, 9, 0), (0.4, 9, 1)]


def test_a_name_names_the_folder():
    named = plan.from_mapping({"command": "gd", "name": "edge", "base": BASE | {"lr": 0.1}}, "file")
    assert plan.expand(named).folder == Path("results/studies/edge")
    with pytest.raises(InputError, match="one folder"):
        plan.expand(plan.from_words([*WORDS, "0.1", "3"], name="../edge"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"gird": {}}, "unknown key 'gird'. Did you mean 'grid'"),
        ({"grid": {"lrr": [0.1]}}, "grid: unknown option 'lrr'. Did you mean 'lr'"),
        ({"grid": {"lr": []}}, "lr: expected at least one value, got an empty list"),
        ({"grid": {}}, "grid: expected at least one axis"),
        ({"grid": {"lr": {"range": [3, 3]}}}, "expected at least one value"),
        ({"grid": {"lr": {"logg": [1, 2, 3]}}}, "Did you mean 'log'"),
        ({"grid": {"lr": {"log": [0, 1, 3]}}}, "positive ends"),
        ({"grid": {"lr": {"linear": [0, 1]}}}, "how many"),
        ({"zip": {"lr": [1, 2], "seed": [1]}}, "lr has 2, seed has 1"),
        ({"grid": {"seed": [1]}, "replicates": 2}, "seed: expected once, got it in grid and in replicates"),
        ({"grid": {"max_steps": [1]}}, "max_steps: expected once, got it in base and in grid"),
        ({"base": BASE | {"seed": 3}, "replicates": 2}, "seed: .* in base and in replicates, which varies"),
        ({"zip": {"lr": [1], "arch": ["fc"]}}, "arch: expected once, got it in base and in zip"),
        (
            {"base": BASE | {"model": {"width": 3}}, "grid": {"model.width": [4]}},
            "model.width: expected once, got it in base and in grid",
        ),
        (
            {"grid": {"model": [{"width": 3}], "model.width": [4]}},
            r"model.width: expected once, got it in grid \(model there\) and in grid",
        ),
        ({"grid": {"seed": {"range": [0, 10**20]}}}, "100000000000000000000 values, more than can be run"),
        ({"replicates": 0}, "at least 1"),
        ({"replicates": 10**22}, "10000000000000000000000 values, more than can be run"),
        ({"name": 5}, "name: expected a text, got 5. Put it in quotes"),
        ({"points": []}, "expected a list"),
        ({"base": [1]}, "base: expected a mapping"),
        (
            {"points": [{"max_steps": 2}, {"max_steps": 3}], "base": BASE | {"lr": 1}},
            "share the folder .*max_steps=2 and max_steps=3",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(content, message):
    with pytest.raises(InputError, match=message):
        plan.expand(plan.from_mapping({"command": "gd", "base": BASE, **content}, "sweep.yaml"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected a command"),
        (["gdd"], "Did you mean 'gd'"),
        ([*WORDS, "0.1", "3", "4"], "unexpected word '4'"),
        ([*WORDS, "lr=0.1,,2", "3"], "between commas"),
        ([*WORDS, "lr=0.1", "--lr", "2", "3"], "given twice"),
        ([*WORDS, "0.1", "3", "--neigs"], "neigs: expected a value"),
        ([*WORDS, "0.1", "3", "nieghs=1"], "unknown option 'nieghs'"),
        ([*WORDS, "0.1", "3", "seed=3..1"], "seed: expected at least one value"),
        ([*WORDS, "0.1"], "missing: max_steps"),
        ([*WORDS, "0.1", "3", f"seed=0..{10**20 - 1}"], f"seed: .* are {10**20} values"),
        ([*WORDS, f"log:0.1:1:{10**20}", "3"], f"lr: .* are {10**20} values"),
        ([*WORDS, "0.1", f"max_steps=1..{10**12}", f"seed=1..{10**12}"], f"{10**24} points"),
    ],
)
def test_words_that_do_not_fit_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        plan.expand(plan.from_words(words))


def test_a_million_points_have_to_be_meant_and_are_not_built_to_be_counted(monkeypatch):
    monkeypatch.setattr(plan, "validate", None)  # it would be called for a point
    for text in ("seed=0..999999", "seed=0..999999999999"):
        with pytest.raises(InputError, match=r"--yes"):
            plan.expand(plan.from_words([*WORDS, "lr=0.1,0.2", text, "max_steps=3"]))


def test_a_refused_point_is_listed_with_its_reason_and_the_others_stay():
    found = plan.expand(plan.from_words([*WORDS, "lr=0.1,-1,x", "max_steps=3"]))
    assert [p.label for p in found.points] == ["lr=0.1"]
    assert [(r.label, r.reason) for r in found.refused] == [
        ("lr=-1", "lr: expected a finite number above 0, got -1."),
        ("lr=x", "lr: expected a finite number above 0, got 'x'."),
    ]


@pytest.mark.parametrize("name", ENGINES)
def test_a_missing_engine_names_its_extra(name, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    assert main(["sweep", *WORDS, "0.1", "3", "--executor", name]) == 2
    assert f"pip install 'limen[{name}]'" in capsys.readouterr().err
    assert not Path("results").exists()


def outside(code: str) -> str:
    """What a fresh process prints that runs `code`."""
    path = str(Path(plan.__file__).parents[2].absolute())
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    return shown.stdout


def test_planning_loads_neither_torch_nor_an_engine():
    code = (
        "import sys\n"
        "from limen.cli.main import main\n"
        "assert main('sweep gd digits fc-tanh mse seed=0..999999 lr=0.1 max_steps=3'.split()) == 2\n"
        "print(*{'torch', 'ray', 'submitit', 'pandas'} & set(sys.modules))"
    )
    assert outside(code).split() == []


def test_the_core_runs_without_any_extra():
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['ray', 'submitit', 'pandas', 'xarray'])\n"
        "from limen.cli.main import main\n"
        "words = 'chebyshev-3-20 regression mse 0.1 3'\n"
        "assert main(f'gd {words} --quiet'.split()) == 0\n"
        "assert main(f'sweep gd {words} --neigs 0'.split()) == 0\n"
        "assert main(['ls']) == 0\n"
    )
    assert "nothing to do" in outside(code)


# The driver, with an executor that does as it is told.

Act = Callable[[Job], "list[Outcome] | str"]


class Scripted(Executor):
    """Runs jobs here, or does with the first attempts at a point what a script says instead."""

    slots, told = 2, "a script"

    def __init__(self, script: dict[int, list[Act]] | None = None) -> None:
        self.script = script or {}
        self.jobs: list[Job] = []
        self.ran: list[int] = []

    def submit(self, jobs: Sequence[Job]) -> None:
        self.jobs += jobs
        assert len(self.jobs) <= self.slots

    def wait(self, seconds: float) -> list[tuple[Job, list[Outcome]]]:
        job = self.jobs.pop(0)
        self.ran += job.numbers
        acts = self.script.get(job.numbers[0], [])
        said = acts.pop(0)(job) if acts else perform(job)
        return [died(job, said) if isinstance(said, str) else (job, said)]

    def kill(self) -> None:
        self.jobs = []

    def close(self) -> None:
        pass


def killed(job: Job) -> str:
    return "its worker was killed"


def run(script: dict[int, list[Act]] | None = None, *words: str) -> tuple[drive.Driver, Scripted]:
    """Drive a study of three points (or of `words`) to its end."""
    made = plan.expand(plan.from_words([*WORDS, *(words or ("lr=0.1,0.2,0.3", "max_steps=3"))], "study"))
    executor = Scripted(script)
    return drive_(made, executor), executor


def drive_(made: plan.Plan, executor: Executor, ensemble: str = "off") -> drive.Driver:
    with study.driving(made) as held:
        driver = drive.Driver(made, held, executor, drive.Manner(1, "highest", ensemble))
        driver.run()
    return driver


def states(driver: drive.Driver) -> list[str]:
    return [standing.state for standing in driver.study.standings()]


def test_a_study_runs_every_point_once_and_again_none():
    driver, executor = run()
    assert (states(driver), executor.ran) == (["finished"] * 3, [0, 1, 2])
    driver, executor = run()
    assert (states(driver), executor.ran) == (["finished"] * 3, [])
    driver, executor = run(None, "lr=0.1,0.2,0.3,0.4", "max_steps=3")
    assert (states(driver), executor.ran) == (["finished"] * 4, [3])


def test_a_point_is_bit_for_bit_the_single_command():
    run()
    spec = GDSpec(
        dataset="chebyshev-3-20", arch="regression", loss="mse", lr=0.2, max_steps=3, results="alone"
    )
    alone = launch(spec).folder
    swept = Path("results") / alone.relative_to("alone")
    assert (swept / "scalars.jsonl").read_bytes() == (alone / "scalars.jsonl").read_bytes()


def test_more_steps_go_on_from_the_end():
    run()
    driver, executor = run(None, "lr=0.1,0.2,0.3", "max_steps=5")
    assert (states(driver), executor.ran) == (["finished"] * 3, [0, 1, 2])
    resumed = open_run(driver.plan.points[0].folder).info["resumed"]
    assert [at["step"] for at in resumed] == [3]


def test_fewer_steps_than_a_run_has_done_are_nothing_to_do():
    run(None, "lr=0.1,0.2,1e9", "max_steps=60")
    for words in (["max_steps=4"], ["max_steps=60", "--loss_goal", "1e-9"], ["max_steps=4", "--save_model"]):
        driver, executor = run(None, "lr=0.1,0.2,1e9", *words)
        assert (states(driver), executor.ran) == (["finished", "finished", "diverged"], [])
    driver, executor = run(None, "lr=0.1,0.2,1e9", "max_steps=61")
    assert (states(driver), executor.ran) == (["finished", "finished", "diverged"], [0, 1])


def test_a_flow_for_a_shorter_time_is_nothing_to_do():
    made = plan.expand(plan.from_words(["flow", *WORDS[1:], "0.5", "2"], "study"))
    drive_(made, Scripted())
    shorter, executor = plan.expand(plan.from_words(["flow", *WORDS[1:], "0.5", "1"], "study")), Scripted()
    assert states(drive_(shorter, executor)) == ["finished"]
    assert executor.ran == []


def test_a_worker_that_dies_is_replaced():
    driver, executor = run({1: [killed, killed]})
    assert states(driver) == ["finished"] * 3
    assert sorted(executor.ran) == [0, 1, 1, 1, 2]
    lost = [event for event in driver.study.events() if event["event"] == "lost"]
    assert [event["attempt"] for event in lost] == [1, 2]


def test_three_deaths_in_a_row_without_progress_fail_the_point_and_no_other():
    driver, executor = run({0: [killed] * 9})
    assert states(driver) == ["failed", "finished", "finished"]
    assert executor.ran.count(0) == drive.ATTEMPTS
    assert "its worker was killed" in driver.study.standings()[0].why
    driver, _ = run()  # the next sweep tries again
    assert states(driver) == ["finished"] * 3


def test_deaths_with_progress_in_between_do_not_count_up():
    attempts = []

    def further(job: Job) -> str:
        attempts.append(job)
        folder = job.specs[0].folder() / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{len(attempts)}.pt").touch()
        return "its worker was killed"

    def undo(job: Job) -> list[Outcome]:
        for path in (job.specs[0].folder() / "checkpoints").iterdir():
            path.unlink()
        return perform(job)

    driver, _ = run({0: [*[further] * 5, undo]})
    assert states(driver) == ["finished"] * 3


def test_a_run_that_was_over_before_its_worker_died_is_not_run_again():
    def late(job: Job) -> str:
        perform(job)
        return "its worker was killed"

    driver, executor = run({1: [late]})
    assert (states(driver), sorted(executor.ran)) == (["finished"] * 3, [0, 1, 2])


def test_a_run_that_another_process_writes_is_waited_for(monkeypatch):
    monkeypatch.setattr(drive, "PATIENCE", 0.0)
    said = []

    def held(job: Job) -> list[Outcome]:
        folder = job.specs[0].folder()
        folder.mkdir(parents=True)
        with lock.writing(folder):
            outcomes = perform(job)
        said.extend(outcomes)
        return outcomes

    driver, executor = run({1: [held]})
    assert [outcome.status for outcome in said] == [BUSY]
    assert (states(driver), sorted(executor.ran)) == (["finished"] * 3, [0, 1, 1, 2])


def test_diverged_refused_and_crashed_points_say_why_and_stop_nobody(elsewhere):
    (elsewhere / "crashing.py").write_text(
        "from limen.dynamics import make\n"
        "def rule(*, lr):\n"
        "    if lr == 0.3:\n"
        "        raise RuntimeError('no such luck')\n"
        "    return make('gd', {'lr': lr})\n"
    )
    driver, _ = run(None, "lr=0.1,1e9,0.3,-1", "max_steps=60", "--opt", "crashing:rule")
    standings = {each.label: each for each in driver.study.standings()}
    assert [each.state for each in standings.values()] == ["finished", "diverged", "failed", "refused"]
    assert "not finite at step" in standings["lr=1e9"].why
    assert "no such luck" in standings["lr=0.3"].why
    assert "crashing.py, line 4" in standings["lr=0.3"].why
    assert "above 0" in standings["lr=-1"].why


@pytest.mark.parametrize(
    ("present", "code"),
    [
        ("finished", 0),
        ("finished diverged", 3),
        ("finished diverged refused", 2),
        ("failed refused diverged", 1),
        ("failed interrupted", 130),
        ("finished waiting", 130),
    ],
)
def test_the_exit_status_is_that_of_the_worst(present, code):
    assert drive.exit_status(present.split()) == code


def test_a_cancelled_study_stops_at_a_step_and_goes_on_later():
    def cancelling(job: Job) -> list[Outcome]:
        job.stop.touch()
        return perform(job)

    driver, executor = run({1: [cancelling]})
    assert states(driver) == ["finished", "waiting", "waiting"]
    assert driver.outcomes[1].status == Status.INTERRUPTED
    driver, executor = run()
    assert (states(driver), executor.ran) == (["finished"] * 3, [1, 2])


def test_a_cancelled_run_ends_in_its_middle(monkeypatch):
    made = plan.expand(plan.from_words([*WORDS, "lr=0.1", "max_steps=100000"], "study"))
    look = work.Watch.__call__

    def cancel_at_7(watch, event):
        match event:
            case Mark(step=7):
                watch.stop.touch()
        look(watch, event)

    monkeypatch.setattr(work, "LOOK", 0.0)
    monkeypatch.setattr(work.Watch, "__call__", cancel_at_7)
    drive_(made, Scripted())
    run_ = open_run(made.points[0].folder)
    assert run_.status == Status.INTERRUPTED
    assert run_.info["reached"] in (7, 8)


def test_one_driver_a_study_and_another_sweep_of_its_name_touches_nothing(capsys):
    made = plan.expand(plan.from_words([*WORDS, "0.1", "3"], "study"))
    with study.driving(made) as held:
        before = (held.folder / study.PLAN).read_bytes()
        assert main(["sweep", *WORDS, "0.2", "3", "--name", "study"]) == 1
        assert (held.folder / study.PLAN).read_bytes() == before
        said = capsys.readouterr().err
        assert f"the study {held.folder} is driven by process {os.getpid()} on" in said
        assert "--name" in said
    assert not held.driven()
    assert main(["sweep", *WORDS, "0.2", "3", "--name", "study", "--quiet"]) == 0
    assert (held.folder / study.PLAN).read_bytes() != before


def test_a_cancel_while_the_cost_is_estimated_is_not_lost(monkeypatch, capsys):
    def slow(question):
        assert main(["sweep", "cancel", "results/studies/study"]) == 0
        return cost.Timed(0.1, 0.1, "highest")

    (made,) = points("0.1", "3")
    folder = Path("results/studies/study")
    folder.mkdir(parents=True)
    (folder / study.CANCEL).touch()  # an earlier one, of which nothing is left
    monkeypatch.setattr(cost, "estimate", slow)
    assert main(["sweep", *WORDS, "0.1", "3", "--name", "study"]) == 130
    assert "waiting 1" in capsys.readouterr().out
    assert not made.folder.exists()
    monkeypatch.setattr(cost, "estimate", lambda question: cost.Timed(0.1, 0.1, "highest"))
    assert main(["sweep", *WORDS, "0.1", "3", "--name", "study"]) == 0


def test_half_a_line_in_the_log_is_passed_over():
    driver, _ = run()
    with (driver.study.folder / study.EVENTS).open("a") as file:
        file.write('{"event": "sta')
    before = len(list(driver.study.events()))
    driver.study.log("over")
    assert len(list(driver.study.events())) == before + 1
    assert states(driver) == ["finished"] * 3


def test_a_study_can_be_asked_from_anywhere(elsewhere, monkeypatch, capsys):
    driver, _ = run()
    folder = driver.study.folder.absolute()
    (elsewhere / "other").mkdir()
    monkeypatch.chdir(elsewhere / "other")
    assert main(["sweep", "status", str(folder)]) == 0
    assert "finished 3" in capsys.readouterr().out
    assert main(["sweep", "cancel", str(folder)]) == 0
    monkeypatch.chdir(folder.parent)
    assert main(["sweep", "status", folder.name]) == 0
    assert "finished 3" in capsys.readouterr().out
    monkeypatch.chdir(folder)
    assert main(["sweep", "status", "."]) == 0
    assert "finished 3" in capsys.readouterr().out
    assert len(open_runs(".")) == len(open_runs(folder)) == 3
    assert main(["sweep", "status", "nowhere"]) == 1
    assert "no study in nowhere" in capsys.readouterr().err


def test_a_damaged_study_says_how_it_is_mended():
    driver, _ = run()
    (driver.study.folder / study.PLAN).write_text('{"format": 1, "points"')
    with pytest.raises(StoreError, match="Run the sweep again"):
        study.open_study(driver.study.folder)


def test_an_ensemble_records_every_member_in_its_own_folder():
    made = plan.expand(plan.from_words([*WORDS, "lr=0.1,0.2", "seed=0..1", "max_steps=3"], "study"))
    executor = Scripted()
    drive_(made, executor, "on")
    assert executor.ran == [0, 1, 2, 3]
    assert {open_run(p.folder).info["ensemble"]["members"] for p in made.points} == {4}


def test_an_ensemble_whose_worker_dies_goes_on_as_one_and_at_last_each_alone():
    made = plan.expand(plan.from_words([*WORDS, "lr=0.1,0.2", "seed=0..1", "max_steps=3"], "study"))
    jobs: list[tuple[int, ...]] = []

    class Noting(Scripted):
        def submit(self, given: Sequence[Job]) -> None:
            jobs.extend(job.numbers for job in given)
            super().submit(given)

    drive_(made, Noting({0: [killed]}), "on")
    assert jobs == [(0, 1, 2, 3)] * 2
    jobs.clear()
    for point in made.points:
        (point.folder / "run.json").unlink()
        layout.erase(point.folder)
    driver = drive_(made, Noting({0: [killed] * 3}), "on")
    assert jobs == [(0, 1, 2, 3), (0, 1, 2, 3), (0,), (1,), (2,), (3,)]
    assert states(driver) == ["failed", "finished", "finished", "finished"]


def test_the_cost_counts_what_is_measured_rarely_at_its_frequency():
    timed = cost.Timed(step=0.01, full=0.51)
    spec = GDSpec(
        dataset="digits",
        arch="fc-tanh",
        loss="mse",
        lr=0.1,
        max_steps=100,
        neigs=1,
        eig_freq=10,
        test_freq=-1,
    )
    assert math.isclose(timed.seconds([spec, spec]), 2 * (100 * 0.01 + 10 * 0.5))


def test_the_cost_of_a_point_that_cannot_be_built_is_unknown_with_its_reason():
    spec = GDSpec(dataset="chebyshev-3-20", arch="regression", loss="mse", lr=0.1, max_steps=3, neigs=10**6)
    assert "neigs" in cost.measure(cost.Question(spec, 1, Place())).trouble


def test_gpus_are_dealt_where_the_timed_point_cannot_run(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    made = plan.expand(plan.from_words([*WORDS, "lr=0.1,0.2", "max_steps=3", "--neigs", str(10**6)]))
    timed = cost.measure(cost.Question(made.points[0].spec, 1, Place()))
    assert timed.trouble
    assert timed.gpus == ("0", "1")
    pool = choose(Wish(), made, timed, 2, Path("logs"))
    assert pool.told.startswith("2 workers")
    assert pool._gpus == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(cost, "call", lambda function, argument: _dies_when_timed(function, argument))
    timed = cost.estimate(cost.Question(made.points[0].spec, 1, Place()))
    assert (timed.trouble, timed.gpus) == ("the process that was to time it died", ("3", "5"))


def _dies_when_timed(function, argument):
    if function is cost.measure:
        raise EOFError
    return function(argument)


def test_a_mode_of_products_that_is_inaccurate_on_a_worker_is_not_used_there(monkeypatch):
    import torch

    before = torch.get_float32_matmul_precision()
    try:
        for error, mode in ((1e-7, "medium"), (1e-3, "highest")):
            work.usable.cache_clear()
            monkeypatch.setattr("limen.linalg.matmul.gemm_error", lambda device, error=error: error)
            assert work.usable("medium", "cpu") == mode
        assert work.usable(None, "cpu") is None
    finally:
        torch.set_float32_matmul_precision(before)
        work.usable.cache_clear()


def test_workers_have_to_be_some():
    with pytest.raises(InputError, match="workers"):
        Wish(workers=0)


def test_study_json_names_specs_and_run_folders():
    driver, _ = run()
    content = json.loads((driver.study.folder / "study.json").read_text())
    assert [point["spec"]["lr"] for point in content["points"]] == [0.1, 0.2, 0.3]
    assert all((Path("results") / point["run"] / "run.json").is_file() for point in content["points"])
