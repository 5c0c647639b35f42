"""Runs in the formats of other programs.

npz, torch: every series by itself, with its steps and times. csv, parquet: one table with a row for each run and step.
netcdf: the Dataset of `Runs.series`.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.catalogue.extras import need
from limen.catalogue.runs import Runs
from limen.errors import InputError, StoreError
from limen.store import Run, Series

WIDEST = 1000
"""Numbers in a row of a table that one quantity may take; more belong in a format with arrays."""


def export(runs: Runs, kind: str, file: Path, names: Sequence[str] = (), *, overwrite: bool = False) -> None:
    """Write the records of `runs` to `file`, as a whole or not at all.

    Args:
        runs: which.
        kind: npz, csv, parquet, netcdf or torch.
        file: where to.
        names: of the quantities; all that any run has, if empty.
        overwrite: replace a file that is there.

    Raises:
        InputError: another kind, a package is missing, there is a file, no run has a quantity, or one is too wide.
        StoreError: it cannot be written, or a run not be read.
    """
    if kind not in FORMATS:
        raise InputError(f"to: expected one of {', '.join(FORMATS)}, got {kind!r}.")
    if file.exists() and not overwrite:
        raise InputError(f"{file} is there already; choose another with -o, or replace it with --overwrite.")
    opened = list(runs)
    known = list(dict.fromkeys(name for run in opened for name in run.names()))
    chosen = list(names) or known
    for name in chosen:
        if name not in known:
            raise InputError(f"no run has records of {name!r}. There are: {', '.join(known)}.")
    if not chosen:
        raise InputError("nothing to export: these runs have no records yet.")
    content = FORMATS[kind].write(Chosen(runs, opened, chosen))
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {file}: {error.strerror or error}.") from error


@dataclass(frozen=True)
class Chosen:
    """What is to be written.

    Attributes:
        runs: as the catalogue has them.
        opened: the same, to read.
        names: of the quantities.
    """

    runs: Runs
    opened: Sequence[Run]
    names: Sequence[str]

    def each(self) -> Iterator[tuple[str, Run, dict[str, Series]]]:
        """Yield label, run and records of each."""
        for row, run in zip(self.runs.rows, self.opened, strict=True):
            have = set(run.names())
            yield row["run"], run, {name: run.series(name) for name in self.names if name in have}

    def about(self) -> dict[str, dict[str, Any]]:
        """Return by label what each run is."""
        return {
            row["run"]: {
                "spec": run.spec,
                "status": str(run.status),
                "why": run.why,
                "threshold": run.threshold,
            }
            for row, run in zip(self.runs.rows, self.opened, strict=True)
        }


def _npz(chosen: Chosen) -> bytes:
    several = len(chosen.opened) > 1
    arrays: dict[str, Any] = {"runs": np.array(json.dumps(chosen.about()))}
    for label, _, records in chosen.each():
        for name, series in records.items():
            key = f"{label}/{name}" if several else name
            arrays |= {key: series.values, f"{key}.step": series.steps, f"{key}.t": series.t}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _torch(chosen: Chosen) -> bytes:
    import torch

    about = chosen.about()
    content = {
        label: about[label]
        | {
            "series": {
                name: {
                    "step": torch.from_numpy(series.steps),
                    "t": torch.from_numpy(series.t),
                    "values": torch.from_numpy(series.values),
                }
                for name, series in records.items()
            }
        }
        for label, _, records in chosen.each()
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@dataclass(frozen=True)
class Table:
    """A row for each run and each step at which any of its quantities was measured (r rows in all).

    Attributes:
        keys: `run`, the words in which runs differ, `step` and `t`.
        values: the numbers, one column for each component: name -> (values (r,), whether measured (r,)).
    """

    keys: dict[str, list[Any]]
    values: dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]


def table(chosen: Chosen) -> Table:
    """Return the records as a table.

    Raises:
        InputError: a quantity has more numbers at a step than a table should have columns.
    """
    rows = {row["run"]: row for row in chosen.runs.rows}
    words = [name for name in chosen.runs.differing if name not in ("step", "t", "run")]
    keys: dict[str, list[Any]] = {name: [] for name in ("run", *words, "step", "t")}
    parts: dict[str, list[tuple[slice, NDArray[np.intp], NDArray[np.float64]]]] = {}
    total = 0
    for label, _, records in chosen.each():
        all_steps = [series.steps for series in records.values()]
        steps = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *all_steps]))
        t = np.full(len(steps), np.nan)
        for name, series in records.items():
            place = np.searchsorted(steps, series.steps)
            t[place] = series.t
            for column, values in _columns(name, series):
                parts.setdefault(column, []).append((slice(total, total + len(steps)), place, values))
        keys["run"] += [label] * len(steps)
        keys["step"] += steps.tolist()
        keys["t"] += t.tolist()
        for name in words:
            keys[name] += [rows[label][name]] * len(steps)
        total += len(steps)
    columns = {}
    for column, pieces in parts.items():
        numbers, measured = np.full(total, np.nan), np.zeros(total, dtype=np.bool_)
        for span, place, found in pieces:
            numbers[span][place], measured[span][place] = found, True
        columns[column] = numbers, measured
    return Table(keys, columns)


def _columns(name: str, series: Series) -> Iterator[tuple[str, NDArray[np.float64]]]:
    if series.values.ndim == 1:
        yield name, series.values.astype(np.float64)
        return
    flat = series.values.reshape(len(series.steps), -1).astype(np.float64)
    if flat.shape[1] > WIDEST:
        raise InputError(
            f"{name!r} has {flat.shape[1]:,} numbers a step, a table takes up to {WIDEST:,}. "
            "Choose npz, netcdf or torch, or leave it out with --names."
        )
    yield from ((f"{name}.{index}", flat[:, index]) for index in range(flat.shape[1]))


def _csv(chosen: Chosen) -> bytes:
    made = table(chosen)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*made.keys, *made.values])
    columns: list[list[Any]] = list(made.keys.values())
    for numbers, measured in made.values.values():
        columns.append(
            [value if seen else None for value, seen in zip(numbers.tolist(), measured, strict=True)]
        )
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode()


def _parquet(chosen: Chosen) -> bytes:
    arrow, parquet = need("pyarrow", "parquet"), need("pyarrow.parquet", "parquet")
    made = table(chosen)
    columns = {name: arrow.array(_alike(values)) for name, values in made.keys.items()}
    columns |= {
        name: arrow.array(numbers, mask=~measured) for name, (numbers, measured) in made.values.items()
    }
    written = arrow.table(columns).replace_schema_metadata({"runs": json.dumps(chosen.about())})
    buffer = io.BytesIO()
    parquet.write_table(written, buffer)
    return buffer.getvalue()


def _alike(values: list[Any]) -> list[Any]:
    """Return words of one type: as they are, or as text where text is among them."""
    texts = any(isinstance(value, str) for value in values)
    return [value if value is None or not texts else str(value) for value in values]


def _netcdf(chosen: Chosen) -> bytes:
    need("h5netcdf", "netcdf")
    need("h5py", "netcdf")
    data = chosen.runs.series(*chosen.names)
    data = data.assign_attrs(runs=json.dumps(chosen.about()))
    # a slash would begin a group
    names: Mapping[str, str] = {name: name.replace("/", ".") for name in (*data.variables, *data.dims)}
    renamed = data.rename({old: new for old, new in names.items() if old != new})
    return bytes(renamed.to_netcdf(engine="h5netcdf"))


@dataclass(frozen=True)
class Format:
    """How a kind of file is written, and what its name ends in."""

    suffix: str
    write: Callable[[Chosen], bytes]


FORMATS = {
    "npz": Format("npz", _npz),
    "csv": Format("csv", _csv),
    "parquet": Format("parquet", _parquet),
    "netcdf": Format("nc", _netcdf),
    "torch": Format("pt", _torch),
}
