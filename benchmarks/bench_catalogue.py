"""`limen ls` over many runs: the index made, a warm command, and one after a tenth of the runs have changed.

CPU and wall time of the whole command, start of python included, in a folder of small made-up runs (RUNS of them, or
10,000) with RECORDS steps each (100).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = int(os.environ.get("RUNS", "10000"))
RECORDS = int(os.environ.get("RECORDS", "100"))
SPEC = {
    "command": "gd", "dataset": "digits", "arch": "fc-tanh", "loss": "mse", "seed": 0, "lr": 0.1, "max_steps": RECORDS,
    "opt": "gd", "beta": None, "neigs": 1, "eig_freq": 10, "data": {"n": 200}, "model": {"width": 50},
}  # fmt: skip


def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for index in range(RUNS):
            make(root / f"seed_{index % 100}" / f"lr_{index // 100}", 0.01 * (1 + index // 100), index % 100)
        print(f"{RUNS} runs of {RECORDS} steps; seconds of `limen ls`, CPU and wall")
        print(f"  index made        {show(timed(root))}")
        print(f"  warm              {show(min(timed(root) for _ in range(5)))}")
        where = [
            "--where",
            "lr > 0.5 and status == 'finished'",
            "--sort",
            "edge desc",
            "--columns",
            "lr, edge",
        ]
        print(f"  warm, a question  {show(min(timed(root, *where) for _ in range(5)))}")
        for index in range(0, RUNS, 10):
            path = root / f"seed_{index % 100}" / f"lr_{index // 100}" / "scalars.jsonl"
            with path.open("a") as file:
                file.write('{"probe": "train", "step": 100, "t": 1.0, "values": {"train_loss": 1.0}}\n')
        print(f"  a tenth changed   {show(timed(root))}")


def make(folder: Path, lr: float, seed: int) -> None:
    folder.mkdir(parents=True)
    about = {
        "format": 1, "id": str(folder), "status": "finished", "why": "made up", "experiment": {},
        "spec": SPEC | {"lr": lr, "seed": seed}, "max_steps": RECORDS, "threshold": 2 / lr, "reached": RECORDS,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(about, indent=2))
    lines = []
    for step in range(RECORDS):
        entry = {"probe": "train", "step": step, "t": step * lr, "values": {"train_loss": 1 / (1 + step)}}
        lines.append(json.dumps(entry))
        if step % 10 == 0:
            entry = {"probe": "eigs", "step": step, "t": step * lr, "values": {"eigs": [step / 50 / lr]}}
            lines.append(json.dumps(entry))
    (folder / "scalars.jsonl").write_text("\n".join(lines) + "\n")
    (folder / ".lock").touch()


def timed(root: Path, *words: str) -> tuple[float, float]:
    """Return CPU and wall seconds."""
    start, before = time.perf_counter(), os.times()
    command = [sys.executable, "-m", "limen", "ls", str(root), *words]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    spent = sum(after[2:4]) - sum(before[2:4])  # of children, user and system
    return spent, time.perf_counter() - start


def show(times: tuple[float, float]) -> str:
    return "".join(f"{seconds:7.2f}" for seconds in times)
