"""The command itself, killed at random moments on a real network: resumed, it is the uninterrupted run."""

from __future__ import annotations

import random
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

KILLS = 20
SHARED = (
    "--neigs 2 --eig_freq 5 --nproj 4 --iterate_freq 3 --test_freq 2 --checkpoint_freq 7 --save_model --quiet "
    "--resume"
)
COMMANDS = {
    "gd": f"gd digits fc-tanh mse 0.4 240 --model.width 40 --data.n 300 --opt polyak --beta 0.3 {SHARED}",
    "flow": f"flow digits fc-tanh mse 0.5 80 --model.width 40 --data.n 300 --certify {SHARED}",
}


def command(name: str, results: Path) -> list[str]:
    return [sys.executable, "-m", "limen", *shlex.split(COMMANDS[name]), "--results", str(results)]


def contents(results: Path) -> dict[str, bytes]:
    """Everything that is reproducible: records, tensor blocks, and the published tensors as bytes."""
    (folder,) = (path.parent for path in results.rglob("run.json"))
    files = {"scalars": (folder / "scalars.jsonl").read_bytes()}
    files |= {
        str(path.relative_to(folder)): path.read_bytes()
        for path in (folder / "series").rglob("*.safetensors")
    }
    for name in ("train_loss", "test_loss", "train_acc", "test_acc", "eigs", "iterates"):
        files[name] = torch.load(folder / f"{name}_final").numpy().tobytes()
    snapshot = torch.load(folder / "snapshot_final")
    return files | {f"snapshot/{name}": x.numpy().tobytes() for name, x in snapshot.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_random_moments(name: str, tmp_path: Path) -> None:
    begun = time.monotonic()
    subprocess.run(command(name, tmp_path / "whole"), check=True)
    whole = time.monotonic() - begun
    moments, killed, done = random.Random(0), 0, 0
    while killed < KILLS:
        child = subprocess.Popen(command(name, tmp_path / "killed"))
        try:
            child.wait(moments.uniform(0.3, 1.0) * whole)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            killed += 1
            continue
        assert child.returncode == 0
        # it reached the end: compare, and begin another
        assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
        (tmp_path / "killed").rename(tmp_path / f"done_{done}")
        done += 1
    subprocess.run(command(name, tmp_path / "killed"), check=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
