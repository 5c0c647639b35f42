"""Records as lines of strict JSON, and lines as columns.

Floats print as Python's repr; nan and the infinities, which JSON lacks, as the strings "nan", "inf", "-inf".
"""

from __future__ import annotations

import json
import math
import operator
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.errors import InputError, StoreError

_ENCODER = json.JSONEncoder(allow_nan=False, separators=(", ", ": "))


def encode(probe: str, step: int, t: float, values: Mapping[str, Any], branch: str = "") -> str:
    """Return one record as a line, without its end.

    Raises:
        InputError: a value is neither a number nor a list of numbers.
    """
    entry: dict[str, Any] = {"branch": branch} if branch else {}
    entry |= {"probe": probe, "step": step, "t": _number(t)}
    try:
        entry["values"] = {
            name: [_number(item) for item in value] if isinstance(value, list) else _number(value)
            for name, value in values.items()
        }
        return _ENCODER.encode(entry)
    except TypeError as error:
        kinds = ", ".join(f"{name}: {type(value).__name__}" for name, value in values.items())
        raise InputError(
            f"probe {probe!r}: expected numbers, lists of numbers and tensors, got {kinds} ({error})."
        ) from None


@dataclass(frozen=True)
class Rows:
    """What a probe recorded at many steps, numbers alone.

    Attributes:
        probe: its name.
        steps: increasing.
        t: time of each.
        values: by name, a number for each.
    """

    probe: str
    steps: Sequence[int]
    t: Sequence[float]
    values: Mapping[str, Sequence[float]]

    def between(self, first: int, stop: int) -> Rows:
        """Return those with first <= step < stop."""
        part = slice(bisect_left(self.steps, first), bisect_left(self.steps, stop))
        values = {name: column[part] for name, column in self.values.items()}
        return Rows(self.probe, self.steps[part], self.t[part], values)


def encode_rows(rows: Rows) -> list[str]:
    """Return the lines that `encode` gives for each, all at once."""
    head, names = f'{{"probe": {json.dumps(rows.probe)}, "step": ', [json.dumps(name) for name in rows.values]
    columns = [
        [f"{name}: {text}" for text in _texts(rows.values[key])]
        for name, key in zip(names, rows.values, strict=True)
    ]
    inner = columns[0] if len(columns) == 1 else [", ".join(row) for row in zip(*columns, strict=True)]
    return [
        f'{head}{step}, "t": {t}, "values": {{{text}}}}}'
        for step, t, text in zip(rows.steps, _texts(rows.t), inner, strict=True)
    ]


def _texts(numbers: Sequence[float]) -> list[str]:
    texts = [repr(number) for number in numbers]
    if all(map(math.isfinite, numbers)):
        return texts
    return [
        text if math.isfinite(number) else f'"{text}"' for text, number in zip(texts, numbers, strict=True)
    ]


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def key_of(name: str, branch: str) -> str:
    """Return what a recorded quantity is called in a run: `name`, or `branch/name`."""
    return f"{branch}/{name}" if branch else name


def split(path: Path, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the end (in bytes) and the content of each whole line between two places of `path`.

    A last line without an end is left out: it is torn, or still being written.

    Raises:
        StoreError: a whole line is not what `encode` writes.
    """
    with path.open("rb") as file:
        file.seek(start)
        end = start
        for line in file:
            end += len(line)
            if not line.endswith(b"\n") or (stop is not None and end > stop):
                return
            try:
                entry = json.loads(line)
                operator.index(entry["step"]), float(entry["t"])
                for value in entry["values"].values():
                    _check(value)
            except (ValueError, KeyError, TypeError, AttributeError):
                raise StoreError(
                    f"{path}: the line that ends at byte {end} is damaged: {line[:60]!r}. "
                    "--resume goes back to the last checkpoint before it and records it anew."
                ) from None
            yield end, entry


def _check(value: Any) -> None:
    """Raise TypeError or ValueError unless `value` is a number or a list of numbers, as `_number` writes them."""
    for item in value if isinstance(value, list) else (value,):
        float(item)


class Column:
    """One recorded quantity: step, time and value of each measurement."""

    def __init__(self) -> None:
        self.steps, self.t = array("q"), array("d")
        self.values: list[Any] = []

    def add(self, step: int, t: float | str, value: Any) -> None:
        """Append a measurement, as it stands in a line or in a record."""
        self.steps.append(step)
        self.t.append(float(t))
        self.values.append(value)

    def extend(self, rows: Rows, name: str) -> None:
        """Append what a probe recorded at many steps."""
        self.steps.extend(rows.steps)
        self.t.extend(rows.t)
        self.values.extend(rows.values[name])

    def array(self) -> NDArray[np.float64]:
        """Return the values, (m,) for numbers and (m, k) for lists; shorter lists end in nan."""
        if not any(isinstance(value, list) for value in self.values):
            return np.array([float(value) for value in self.values], dtype=np.float64)
        rows = [value if isinstance(value, list) else [value] for value in self.values]
        out = np.full((len(rows), max(map(len, rows))), np.nan)
        for row, value in zip(out, rows, strict=True):
            row[: len(value)] = [float(item) for item in value]
        return out


class Columns(dict[str, Column]):
    """Recorded quantities by name, in the order in which they first came."""

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append what one line says."""
        for name, value in entry["values"].items():
            key = key_of(name, entry.get("branch", ""))
            if key not in self:
                self[key] = Column()
            self[key].add(entry["step"], entry["t"], value)

    def extend(self, rows: Rows) -> None:
        """Append what a probe recorded at many steps, in the main branch."""
        for name in rows.values:
            if name not in self:
                self[name] = Column()
            self[name].extend(rows, name)
