"""The published files of training, beside limen's own: weights as checkpoints, curves as plain tensors.

* `hparams.yaml`: the configuration; `limen train -f` takes it (that of a fine-tuning `limen finetune -f`),
* `model_init.pt`, `model_final.pt`: state_dicts, before the first step and after the last,
* `checkpoints/state_<n>ba.pt`: `["state"]["model"]["module.<name>"]`, weights and buffers after n batches,
* `log.pt`: by metric, all values (m,), and under `batch/<metric>` the batches (m,) at which they were taken,
* `summary.pt`: by metric, the last value, 0-dim.
"""

from __future__ import annotations

import io
import json
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limen.run import Experiment
from limen.store import files, layout, lines
from limen.store.lines import Columns, Rows
from limen.store.published import Files, save
from limen.types import Mark, State

METRICS = {
    "train_loss": "loss/train",
    "train_acc": "metrics/train/Accuracy",
    "test_acc": "metrics/eval/Accuracy",
    "grad_norm": "grad_l2_norm/step",
}
EVALUATED = {"mse": "metrics/eval/MSE"}
"""What the loss on held-out data is called; cross-entropy where it is not here."""
PLACES = ("command", "exp_dir", "data_dir")
"""What a copied configuration has no use for."""
OPTIMIZERS = {"sgd": "SGD", "decoupled_sgdw": "DecoupledSGDW", "adam": "Adam"}
SPEED = "throughput/samples_per_sec"


class TrainingFiles(Files):
    """Writes them.

    Args:
        folder: of the run.
        spec: its words.
        columns: what is recorded already; not needed, for all is read from the records.
        experiment: that runs.
        info: what run.json says beside the spec.
    """

    def __init__(
        self,
        folder: Path,
        spec: Mapping[str, Any],
        columns: Columns,
        *,
        experiment: Experiment,
        info: Mapping[str, Any],
    ) -> None:
        self.folder, self.spec, self.experiment, self.info = folder, spec, experiment, info
        self._mark: Mark | None = None

    def add(self, entry: Mapping[str, Any]) -> None:
        """Leave a record where it is: in scalars.jsonl."""

    def extend(self, rows: Rows) -> None:
        """Leave records where they are."""

    def boundary(self, mark: Mark) -> None:
        """Write the configuration and the weights at the start, and a checkpoint when one is due."""
        self._mark = mark
        every = int(self.info.get("state_freq", 0))
        if mark.step == 0:
            self._configuration()
            save(self.folder / layout.INITIAL, self._weights(mark.state))
        elif every > 0 and mark.step % every == 0:
            self._state(mark)

    def write(self, suffix: str = "") -> None:
        """Write the curves; after the last step the weights too."""
        log = self._log()
        save(self.folder / layout.LOG, log, sync=bool(suffix))
        summary = {name: x[-1].clone() for name, x in log.items() if not name.startswith("batch/")}
        save(self.folder / layout.SUMMARY, summary, sync=bool(suffix))
        if suffix and self._mark is not None and self._mark.step >= self.experiment.steps:
            if self.info.get("state_freq", 0):
                self._state(self._mark)
            shown = self.experiment.objective.test or self.experiment.objective
            save(self.folder / layout.FINAL, _on_cpu(shown.state_dict(self._mark.state)))

    def _configuration(self) -> None:
        import yaml

        said = {key: value for key, value in self.spec.items() if key not in PLACES and value is not None}
        buffer = io.StringIO()
        yaml.safe_dump(said, buffer, sort_keys=False, allow_unicode=True)
        files.replace(self.folder / layout.HPARAMS, buffer.getvalue().encode())

    def _weights(self, state: State) -> dict[str, Tensor]:
        return _on_cpu(self.experiment.objective.state_dict(state))

    def _state(self, mark: Mark) -> None:
        named = {f"module.{name}": x for name, x in self._weights(mark.state).items()}
        per_epoch = int(self.info.get("steps_per_epoch", 1))
        time = {"batch": mark.step, "epoch": mark.step // per_epoch, "batch_in_epoch": mark.step % per_epoch}
        path = layout.state_file(self.folder, mark.step)
        path.parent.mkdir(exist_ok=True)
        save(path, {"state": {"model": named, "timestamp": time}})

    def _log(self) -> dict[str, Tensor]:
        """Return what is recorded by metric, read line by line: a long run has many."""
        batches: dict[str, array[int]] = {}
        values: dict[str, array[float]] = {}
        widths: dict[str, int] = {}
        records = self.folder / layout.SCALARS
        if records.exists():
            for _, entry in lines.split(records):
                for key, value in entry["values"].items():
                    name = lines.key_of(key, entry.get("branch", ""))
                    row = value if isinstance(value, list) else [value]
                    if widths.setdefault(name, len(row)) != len(row):
                        continue  # a list that changes its length is no tensor; it is in scalars.jsonl
                    batches.setdefault(name, array("q")).append(entry["step"])
                    values.setdefault(name, array("d")).extend(float(item) for item in row)
        out: dict[str, Tensor] = {}
        for name, column in values.items():
            metric = self._metric(name)
            flat = torch.tensor(column, dtype=torch.float64)
            out[metric] = (
                flat.view(-1, widths[name]).squeeze(1) if widths[name] == 1 else flat.view(-1, widths[name])
            )
            out[f"batch/{metric}"] = torch.tensor(batches[name], dtype=torch.int64)
        return out | self._speed()

    def _metric(self, name: str) -> str:
        if name == "test_loss":
            return EVALUATED.get(str(self.info.get("loss")), "metrics/eval/CrossEntropy")
        if name == "lr":
            rule = next(iter(self.spec.get("optimizer", {})), "")
            return f"lr-{OPTIMIZERS.get(rule, rule)}/group0"
        return METRICS.get(name, name)

    def _speed(self) -> dict[str, Tensor]:
        """Return images per second between two entries of timing.jsonl, if the speed monitor asks for it."""
        path = self.folder / layout.TIMING
        if "speed_monitor" not in self.spec.get("callbacks", {}) or not path.exists():
            return {}
        batches, speed, before = [], [], (0, 0.0)
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            step, seconds = int(entry["step"]), float(entry["seconds"])
            if step > before[0] and seconds > before[1]:
                batches.append(step)
                speed.append((step - before[0]) * self.info["batch_size"] / (seconds - before[1]))
                before = step, seconds
        if not speed:
            return {}
        return {SPEED: torch.tensor(speed, dtype=torch.float64), f"batch/{SPEED}": torch.tensor(batches)}


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.detach().cpu() for name, x in tensors.items()}
