"""Runs on disk: `record` keeps what an experiment yields, `open_run` and `find_runs` read it back.

A run folder holds

* `run.json`: what was run and how it stands,
* `scalars.jsonl`: one line a record; `timing.jsonl` beside it for what is not reproducible,
* `series/<name>/<first step>.safetensors`: recorded tensors, many rows a file,
* `checkpoints/<step>.pt`: where `--resume` may take the run up; the last two are kept,
* `train_loss_final` and the like: the published tensors.

Reading needs no torch, so torch is imported only when something is recorded.
"""

from typing import TYPE_CHECKING, Any

from limen.store.read import Run, Series, find_runs, open_run

if TYPE_CHECKING:
    from limen.store.writer import record

__all__ = ["Run", "Series", "find_runs", "open_run", "record"]


def __getattr__(name: str) -> Any:
    if name != "record":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from limen.store.writer import record

    return record
