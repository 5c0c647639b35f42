"""Sweeps over real processes: this machine's, submitit's and Ray's; killed, and run again."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import limen
from limen import store
from limen.config import GDSpec
from limen.launch import launch
from limen.store import lock
from limen.sweep.executors.local import Local, call

WORDS = ["gd", "chebyshev-3-20", "regression", "mse"]
MEASURED = ["--neigs", "1", "--eig_freq", "5"]
ENGINES = {
    "local": [],
    "slurm": ["--executor", "slurm", "--slurm.cluster", "local"],
    "ray": ["--executor", "ray"],
}
EXTRAS = {"slurm": "submitit", "ray": "ray"}


def missing(engine: str) -> bool:
    return engine in EXTRAS and importlib.util.find_spec(EXTRAS[engine]) is None


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(limen.__file__).parents[1].absolute()))
    return tmp_path


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "limen", "sweep", *words, "--workers", "2"]


def sweep(*words: str) -> tuple[int, str]:
    """Exit status, and all that was said."""
    done = subprocess.run(command(*words), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def the_study() -> Path:
    (folder,) = Path("results/studies").iterdir()
    return folder


def events(folder: Path) -> list[dict]:
    path = folder / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def alone(lrs: list[float], seeds: list[int], steps: int) -> Iterator[tuple[Path, Path]]:
    """The single command of every point: its folder, and that of the point."""
    for lr in lrs:
        for seed in seeds:
            spec = GDSpec(
                dataset="chebyshev-3-20",
                arch="regression",
                loss="mse",
                lr=lr,
                seed=seed,
                max_steps=steps,
                neigs=1,
                eig_freq=5,
                results="alone",
            )
            yield as_swept(spec)


def as_swept(spec: GDSpec) -> tuple[Path, Path]:
    """Run the single command, in the matmul mode that the point of the sweep found fastest."""
    swept = Path("results") / spec.folder().relative_to("alone")
    return launch(spec, matmul=store.open_run(swept).info["matmul"]).folder, swept


def assert_as_alone(lrs: list[float], seeds: list[int], steps: int) -> None:
    for single, swept in alone(lrs, seeds, steps):
        assert store.open_run(swept).status == store.open_run(single).status
        assert (swept / "scalars.jsonl").read_bytes() == (single / "scalars.jsonl").read_bytes()


def wait_until(condition, seconds: float = 300.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_study_is_the_single_commands_and_again_nothing(engine):
    if missing(engine):
        pytest.skip(f"needs limen[{engine}]")
    lrs = [0.05, 0.1] if engine == "local" else [0.05]
    lr = ",".join(map(str, lrs))
    words = [*WORDS, f"lr={lr}", "seed=0..1", "max_steps=12", *MEASURED, *ENGINES[engine]]
    code, said = sweep(*words)
    assert code == 0, said
    assert f"{2 * len(lrs)} to run" in said
    assert f"finished {2 * len(lrs)}" in said
    assert_as_alone(lrs, [0, 1], 12)
    if engine == "local":
        code, said = sweep(*words)
        assert (code, "nothing to do: every point is done" in said) == (0, True)


def test_a_dry_run_says_what_it_would_cost_and_runs_nothing():
    code, said = sweep(*WORDS, "lr=0.05,0.1", "seed=0..1", "max_steps=12", "--dry_run")
    assert code == 0
    assert "4 points (2 lr × 2 seed)" in said
    assert "ms a step" in said
    assert not Path("results").exists()


def test_workers_are_dealt_one_device_each():
    pool = Local(3, 1, gpus=["2", "5"])
    with pool:
        workers = [pool._start() for _ in range(3)]
        for worker in workers:
            worker.ask(os.getenv, "CUDA_VISIBLE_DEVICES")
        assert [worker.answer() for worker in workers] == ["2", "5", "2"]
    assert call(os.getenv, "CUDA_VISIBLE_DEVICES") == os.environ.get("CUDA_VISIBLE_DEVICES")


LONG = [*WORDS, "lr=0.01,0.02,0.03", "max_steps=2000", "--checkpoint_freq", "20", "--test_freq", "-1"]


def begun() -> list[Path]:
    """Run folders with a checkpoint, whose runs are not over."""
    found = {path.parent.parent for path in Path("results").rglob("checkpoints/*.pt")}
    return [folder for folder in found if lock.held(folder)]


def writers() -> list[int]:
    """The processes that run them."""
    pids = []
    for folder in begun():
        with contextlib.suppress(OSError, ValueError):  # it has ended, or begins just now
            pids.append(json.loads((folder / ".writer.json").read_text())["pid"])
    return sorted(pids)


def test_killed_workers_and_a_killed_driver_lose_nothing():
    driver = subprocess.Popen(command(*LONG, "--quiet"))
    wait_until(begun)
    wait_until(writers)
    os.kill(writers()[0], signal.SIGKILL)
    wait_until(lambda: any(event["event"] == "lost" for event in events(the_study())))
    wait_until(begun)
    driver.kill()
    driver.wait()
    wait_until(lambda: not begun())  # the orphans stop by themselves
    code, said = sweep(*LONG)
    assert code == 0, said
    assert "finished 3" in said
    ends = Counter(event["run"] for event in events(the_study()) if event.get("status") == "finished")
    assert set(ends.values()) == {1}
    for lr in (0.01, 0.02, 0.03):
        spec = GDSpec(
            dataset="chebyshev-3-20",
            arch="regression",
            loss="mse",
            lr=lr,
            max_steps=2000,
            test_freq=-1,
            results="alone",
        )
        single, swept = as_swept(spec)
        assert (swept / "scalars.jsonl").read_bytes() == (single / "scalars.jsonl").read_bytes()


def test_ctrl_c_leaves_runs_that_the_same_sweep_goes_on_with():
    driver = subprocess.Popen(command(*LONG), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(begun)
    driver.send_signal(signal.SIGINT)
    said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 130
    assert "stopping every run after its step" in said
    assert "interrupted 2, waiting 1" in said
    assert not begun()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_64_points_are_64_single_commands_on_every_engine(engine):
    if missing(engine):
        pytest.skip(f"needs limen[{engine}]")
    lrs = [0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16]
    # submitit starts a process for each point, which takes far longer than the steps
    steps = 12 if engine == "slurm" else 60
    shape = ["seed=0..7", f"max_steps={steps}", *MEASURED, *ENGINES[engine]]
    code, said = sweep(*WORDS, "lr=" + ",".join(map(str, lrs)), *shape)
    assert code == 0, said
    assert "finished 64" in said
    assert_as_alone(lrs, list(range(8)), steps)
    if engine != "local":
        return
    code, said = sweep(*WORDS, "lr=" + ",".join(map(str, lrs)), *shape)
    assert (code, "nothing to do" in said) == (0, True)
    code, said = sweep(*WORDS, "lr=" + ",".join(map(str, [*lrs, 0.18])), *shape)
    assert code == 0, said
    assert "64 done, 8 to run" in said
    assert "finished 72" in said


@pytest.mark.slow
def test_20_kills_of_workers_and_drivers_over_64_points_lose_nothing():
    lrs = [0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16]
    words = [*WORDS, "lr=" + ",".join(map(str, lrs)), "seed=0..7", "max_steps=200", "--checkpoint_freq", "10"]
    words += MEASURED
    draw, kills = random.Random(0), Counter()
    driver = subprocess.Popen(command(*words, "--quiet"))
    while kills.total() < 20:
        # spread over the study, however fast the machine is: the last kill finds 7 points that are not over
        wait_until(lambda: finished() >= 3 * kills.total() and writers())
        time.sleep(draw.uniform(0.0, 0.6))
        assert driver.poll() is None, f"over after {kills}: more steps are needed"
        if draw.random() < 0.3:
            driver.kill()
            driver.wait()
            kills["driver"] += 1
            driver = subprocess.Popen(command(*words, "--quiet"))
        elif found := writers():
            os.kill(draw.choice(found), signal.SIGKILL)
            kills["worker"] += 1
    assert driver.wait() == 0
    assert min(kills["driver"], kills["worker"]) > 2
    code, said = sweep(*words)
    assert code == 0, said
    assert "finished 64" in said
    assert "nothing to do" in said
    ends = Counter(event["run"] for event in events(the_study()) if event.get("status") == "finished")
    assert max(ends.values()) == 1
    assert_as_alone(lrs, list(range(8)), 200)


def finished() -> int:
    """How many points of the study are over, as their folders say: a driver that died may not have said it."""
    return sum(b'"status": "finished"' in path.read_bytes() for path in Path("results").rglob("run.json"))
