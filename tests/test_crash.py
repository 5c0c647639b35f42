"""Kills, signals and full disks, in processes of their own; then `resume`, compared to the last bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from toys import child, contents, experiment

from limen import store
from limen.errors import StoreError
from limen.types import Status

STEPS, EVERY = 60, 7
context = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module", autouse=True)
def _server() -> None:
    """Let one server import torch, and every child start from it."""
    here = str(Path(__file__).parent)
    paths = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        context.set_forkserver_preload(["toys"])
        warm = context.Process(target=time.sleep, args=(0,))
        warm.start()
        warm.join()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store.record(tmp_path_factory.mktemp("whole") / "run", experiment(STEPS)).folder


def start(folder: Path, limit: int | None = None, pause: float = 0.02, **made: Any) -> BaseProcess:
    options = {"checkpoint_freq": EVERY, "resume": True}
    made = {"steps": STEPS, "pause": pause, **made}
    process = context.Process(target=child, args=(folder, folder.with_suffix(".said"), options, limit, made))
    process.start()
    return process


def wait_for(path: Path, process: BaseProcess) -> None:
    """Wait until `path` exists; a child that ended without it fails the test."""
    while not path.exists():
        alive = process.is_alive()
        assert alive or path.exists(), f"the child ended ({process.exitcode}) without {path.name}"
        time.sleep(0.002)


def said(folder: Path, process: BaseProcess) -> str:
    process.join(60)
    assert process.exitcode == 0
    return folder.with_suffix(".said").read_text()


def kill_and_resume(folder: Path, whole: Path, draw: random.Random) -> bool:
    """Kill a run at a random moment, resume, compare; return whether it was killed on the way."""
    process = start(folder)
    step = EVERY * draw.randrange(7)
    wait_for(folder / "checkpoints" / f"{step}.pt" if step else folder / "run.json", process)
    time.sleep(draw.uniform(0, 0.15))
    process.kill()
    process.join()
    killed = store.open_run(folder).status is Status.INTERRUPTED
    # What a reader has seen stays as it is: whole lines on disk are those of the undisturbed run.
    lines = (folder / "scalars.jsonl").read_bytes() if (folder / "scalars.jsonl").exists() else b""
    assert (whole / "scalars.jsonl").read_bytes().startswith(lines[: lines.rfind(b"\n") + 1])
    run = store.record(folder, experiment(STEPS), resume=True, checkpoint_freq=EVERY)
    assert run.status is Status.FINISHED
    assert contents(folder) == contents(whole)
    assert not list(folder.rglob(".*.tmp"))
    if killed:
        assert run.info["resumed"][0]["step"] >= step
    return killed


def test_kill_at_random_moments(tmp_path: Path, whole: Path) -> None:
    draw = random.Random(0)
    killed = [kill_and_resume(tmp_path / str(i), whole, draw) for i in range(8)]
    assert any(killed)


@pytest.mark.slow
def test_kill_at_twenty_random_moments(tmp_path: Path, whole: Path) -> None:
    draw = random.Random()
    killed = [kill_and_resume(tmp_path / str(i), whole, draw) for i in range(20)]
    assert sum(killed) >= 10


def test_killed_again_and_again(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    for step in (7, 21, 35):
        process = start(folder)
        wait_for(folder / "checkpoints" / f"{step}.pt", process)
        process.kill()
        process.join()
    run = store.record(folder, experiment(STEPS), resume=True)
    assert len(run.info["resumed"]) == 3
    assert contents(folder) == contents(whole)


def test_a_second_writer_until_the_first_is_killed(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, pause=0.1)
    wait_for(folder / "checkpoints" / "7.pt", process)
    assert store.open_run(folder).status is Status.RUNNING
    with pytest.raises(StoreError, match=rf"written by process {process.pid} on .*one writer"):
        store.record(folder, experiment(STEPS), resume=True)
    process.kill()
    process.join()
    assert store.open_run(folder).status is Status.INTERRUPTED
    store.record(folder, experiment(STEPS), resume=True)
    assert contents(folder) == contents(whole)


def test_ctrl_c(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder)
    wait_for(folder / "checkpoints" / "7.pt", process)
    os.kill(process.pid or 0, signal.SIGINT)
    assert said(folder, process) == "interrupted"
    run = store.open_run(folder)
    assert run.why.startswith("SIGINT before step ")
    assert (folder / "train_loss_final").exists()
    store.record(folder, experiment(STEPS), resume=True)
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize(
    ("limit", "small", "step"), [(6_000, True, 56), (1_000_000, False, None)], ids=["records", "blocks"]
)
def test_full_disk(tmp_path: Path, limit: int, small: bool, step: int | None) -> None:
    steps = 200 if small else STEPS
    folder = tmp_path / "run"
    message = said(folder, start(folder, limit, 0.0, steps=steps, small=small))
    assert message.startswith(f"StoreError: {folder}: File too large. Safe on disk: the records before step ")
    assert "--resume goes on from " in message
    safe = int(message.split("before step ")[1].split(".")[0])
    run = store.open_run(folder)
    assert run.status is Status.FAILED
    assert "File too large" in run.why
    text = (folder / "scalars.jsonl").read_bytes()
    assert text.endswith(b"\n") or not text
    whole = store.record(tmp_path / "whole", experiment(steps, small=small))
    assert (whole.folder / "scalars.jsonl").read_bytes().startswith(text)
    if small:
        assert run.series("train_loss").steps[-1] >= safe - 1 > 0
    resumed = store.record(folder, experiment(steps, small=small), resume=True)
    assert resumed.status is Status.FINISHED
    assert contents(folder) == contents(whole.folder)
