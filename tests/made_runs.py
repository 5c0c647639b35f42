"""Write run folders as limen does, with made-up records, so that every number is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def make(
    folder: Path,
    losses: Sequence[float] = (0.5, 0.25, 0.125),
    tops: Sequence[float] = (),
    *,
    every: int = 1,
    status: str = "finished",
    **words: Any,
) -> Path:
    """A run of gradient descent; `tops` are its top eigenvalues over the threshold 2/lr."""
    spec = {"command": "gd", "dataset": "digits", "arch": "fc-tanh", "loss": "mse", "seed": 0, "lr": 0.1}
    spec |= {"max_steps": len(losses), "opt": "gd", "beta": None, "save_model": False, "model": {}} | words
    folder.mkdir(parents=True)
    about = {
        "format": 1, "id": folder.as_posix(), "status": status, "why": f"made up as {status}", "spec": spec,
        "experiment": {}, "max_steps": len(losses), "threshold": 2 / spec["lr"], "reached": len(losses),
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(about, indent=2) + "\n")
    lines = []
    for step, loss in enumerate(losses):
        t = step * spec["lr"]
        number = loss if abs(loss) < 1e300 else str(loss)
        lines.append({"probe": "train", "step": step, "t": t, "values": {"train_loss": number}})
        if step % every == 0 and step // every < len(tops):
            eigs = [tops[step // every] * 2 / spec["lr"], 0.5]
            lines.append({"probe": "eigs", "step": step, "t": t, "values": {"eigs": eigs, "products": 7.0}})
    (folder / "scalars.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def study(root: Path, lrs: Sequence[float], seeds: int = 1, **more: Any) -> Path:
    """A run for each learning rate and seed."""
    for lr in lrs:
        for seed in range(seeds):
            make(root / f"seed_{seed}" / f"lr_{lr}", lr=lr, seed=seed, **more)
    return root
