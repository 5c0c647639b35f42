"""One run as a row of the catalogue, read from its folder."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limen.errors import StoreError
from limen.store import Run, layout, lock, open_run
from limen.store.lines import key_of

NUMBER = re.compile(rb"(?<=[ \[])-?\d[\d.e+-]*")
EIGS = b'"eigs": '

HALF_WRITTEN = "half-written: records without a run.json; start the run again with --overwrite"
STARTING = "half-written: its process has just begun"


@dataclass
class Row:
    """What the catalogue keeps of a run.

    Attributes:
        values: by column.
        words: columns that are words of the spec.
        running: whether its run.json says that it runs; then a lock decides, each time anew.
    """

    values: dict[str, Any] = field(default_factory=dict)
    words: set[str] = field(default_factory=set)
    running: bool = False


def read(folder: Path) -> Row:
    """Return the row of the run in `folder`; what cannot be read is said in its column `error`."""
    row = Row()
    if not (folder / layout.MANIFEST).is_file():
        begun = lock.held(folder)
        why = STARTING if begun else HALF_WRITTEN
        row.values = {"status": "running" if begun else "failed", "why": why, "error": why}
        row.running = begun
        return row
    try:
        run = open_run(folder)
    except StoreError as error:
        row.values = {"status": "failed", "why": str(error), "error": str(error)}
        return row
    row.running = run.info["status"] == "running"
    row.values, row.words = _words(run)
    try:
        found = records(folder / layout.SCALARS, run.threshold)
        if "sharpness" not in found and "eigs" in layout.series_keys(folder):
            found |= {"sharpness": _last_top(run)}
    except StoreError as error:
        row.values["error"] = str(error)
        return row
    row.values = found | row.values  # a word of the spec goes before a quantity of its name
    # a record of step s precedes update s, so a run that has not ended has done as many as its last record says
    row.values["steps"] = run.info.get("reached", found.get("step"))
    return row


def _words(run: Run) -> tuple[dict[str, Any], set[str]]:
    """Return the columns that run.json gives, and which of them are words."""
    info = run.info
    described = run.spec or {key: info["experiment"].get(key, {}) for key in ("objective", "dynamics")}
    words = flatten(described)
    values: dict[str, Any] = {**words, "status": str(run.status), "why": run.why}
    values |= {key: info.get(key) for key in ("threshold", "max_steps", "started", "ended") if key in info}
    return values, set(words)


def flatten(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one with dotted keys, lists as JSON; `{kind: fields}` names its kind as well.

    >>> flatten({"lr": 0.1, "model": {"width": 3, "shape": [1, 2]}})
    {'lr': 0.1, 'model.width': 3, 'model.shape': '[1, 2]'}
    >>> flatten({"optimizer": {"sgd": {"lr": 0.1}}})
    {'optimizer': 'sgd', 'optimizer.sgd.lr': 0.1}
    """
    flat: dict[str, Any] = {}
    for key, value in spec.items():
        match value:
            case Mapping():
                match list(value.items()):
                    case [(kind, Mapping())]:
                        flat[f"{prefix}{key}"] = kind
                flat |= flatten(value, f"{prefix}{key}.")
            case list():
                flat[f"{prefix}{key}"] = json.dumps(value)
            case _:
                flat[f"{prefix}{key}"] = value
    return flat


def records(path: Path, threshold: float | None) -> dict[str, Any]:
    """Return `step`, the last value of each number, and what the top eigenvalue did.

    Lines that differ in numbers alone say the same things, so of each such kind only the last is parsed, and of
    those with eigenvalues as many as it takes to find the crossing. A torn last line is left out.

    Raises:
        StoreError: the file cannot be read, or one of these lines is damaged.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read ({error.strerror or error}): expected a file of records. "
            "Mend its permissions, or restore it from a copy."
        ) from error
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole.split(b"\n")[:-1]
    kinds = NUMBER.sub(b"", whole).split(b"\n")[:-1]
    last = sorted({kind: index for index, kind in enumerate(kinds)}.values())
    found: dict[str, Any] = {}
    try:
        for entry in map(json.loads, (lines[index] for index in last)):
            found["step"] = max(entry["step"], found.get("step", 0))
            branch = entry.get("branch", "")
            for name, value in entry["values"].items():
                if not isinstance(value, list):
                    found[key_of(name, branch)] = float(value)
        found |= _sharpness([line for line in lines if EIGS in line], threshold)
    except (ValueError, KeyError, TypeError, AttributeError, LookupError):
        raise StoreError(
            f"{path}: a line is damaged. --resume goes back to the last checkpoint before it and records it anew."
        ) from None
    return found


def _sharpness(lines: Sequence[bytes], threshold: float | None) -> dict[str, Any]:
    quarter = [top for _, top in _tops(lines[-max(1, -(-len(lines) // 4)) :])]
    if not quarter:
        return {}
    found: dict[str, Any] = {"sharpness": quarter[-1]}
    if threshold:
        found["crossing"] = next((step for step, top in _tops(lines) if top > threshold), None)
        found["edge"] = math.fsum(quarter) / len(quarter) / threshold
    return found


def _tops(lines: Sequence[bytes]) -> Iterator[tuple[int, float]]:
    """Yield step and top eigenvalue of the measurements of the main branch."""
    for entry in map(json.loads, lines):
        if "branch" not in entry and "eigs" in entry["values"]:
            value = entry["values"]["eigs"]
            row = value if isinstance(value, list) else [value]
            if row:
                yield entry["step"], float(row[0])


def _last_top(run: Run) -> float | None:
    last = run.series("eigs").values[-1:].reshape(-1)
    return float(last[0]) if len(last) else None
