"""Many runs in Python: a table of what they are, and their series side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.catalogue.extras import need
from limen.catalogue.index import Catalogue
from limen.catalogue.walk import MANIFEST
from limen.errors import InputError, nearest
from limen.store import Run, Series, open_run


@dataclass(frozen=True)
class Runs:
    """The runs in a folder that fit a question, as they stood when they were opened.

    Attributes:
        root: what their folders are relative to: the folder, or the results that a study is of.
        rows: of each run what the catalogue knows, by column; None for what a run does not have.
        kinds: the columns, and whether each is a `word` of the spec, a `flag` (true or false) or a `value`.

    Examples:
        >>> import limen, tempfile
        >>> len(limen.open_runs(tempfile.mkdtemp()))
        0
    """

    root: Path
    rows: Sequence[Mapping[str, Any]]
    kinds: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Run]:
        return (open_run(self.root / row["run"]) for row in self.rows)

    @property
    def differing(self) -> list[str]:
        """Words of the spec in which these runs differ."""
        words = [name for name, kind in self.kinds.items() if kind != "value"]
        return [name for name in words if len({row[name] for row in self.rows}) > 1]

    @property
    def table(self) -> Any:
        """A pandas DataFrame with a row for each run, indexed by its folder: words of the spec and summaries.

        Raises:
            InputError: pandas is not installed.
        """
        pandas = need("pandas", "the table of runs")
        frame = pandas.DataFrame(list(self.rows), columns=list(self.kinds)).set_index("run")
        return frame.infer_objects()

    def series(self, *names: str) -> Any:
        """Return the records of `names` as an xarray Dataset.

        Each quantity has dimensions run and step, and one more for each axis of what was measured (`eigs_axis`). Steps
        are all at which any of them was measured; what was not measured is nan. Coordinates: the time `t` (run, step),
        the words in which the runs differ, and `threshold`.

        Raises:
            InputError: xarray is not installed, no run has a record of this name, or shapes differ.
        """
        xarray = need("xarray", "the Dataset of series")
        if not names:
            raise InputError("series: expected names such as 'train_loss', got none.")
        found = [(run, {name: run.series(name) for name in names if name in run.names()}) for run in self]
        _check(names, found)
        all_steps = [series.steps for _, records in found for series in records.values()]
        steps = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *all_steps]))
        t = np.full((len(found), len(steps)), np.nan)
        for index, (_, records) in enumerate(found):
            for series in records.values():
                t[index, np.searchsorted(steps, series.steps)] = series.t
        variables = {
            name: _aligned(name, [records.get(name) for _, records in found], steps) for name in names
        }
        words = {name: ("run", _plain([row[name] for row in self.rows])) for name in self.differing}
        thresholds = [np.nan if run.threshold is None else run.threshold for run, _ in found]
        coordinates = words | {
            "run": [row["run"] for row in self.rows],
            "step": steps,
            "t": (("run", "step"), t),
            "threshold": ("run", np.array(thresholds, dtype=np.float64)),
        }
        return xarray.Dataset(variables, coordinates)


def open_runs(path: Path | str, where: str | None = None, *, also: Sequence[str] = ()) -> Runs:
    """Return the runs in `path` and below, or those of a study.

    Args:
        path: folder of results, or of a study (its `study.json` names the runs).
        where: which of them, as for `limen ls`: `lr > 0.1 and status == 'finished'`. All if None.
        also: expressions of the columns, such as `sharpness/threshold`; each row has their values too.

    Raises:
        InputError: there is no such folder, or `where` is no expression of the columns.
        StoreError: the folder is a study's, which cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"no folder of results at {path}.")
    catalogue = Catalogue(path)
    readable = "error is null" if where is None else f"error is null and ({where})"
    rows = catalogue.table(readable, also) if len(catalogue) else []
    return Runs(catalogue.root, rows, catalogue.columns)


def gather(paths: Sequence[str], where: str | None = None, *, also: Sequence[str] = ()) -> Runs:
    """Return the runs in all of `paths` that fit, each once, under the folder that all share.

    Raises:
        InputError: a folder is missing, or no run fits.
    """
    opened = [open_runs(path, where, also=also) for path in paths]
    homes = [Path(os.path.abspath(runs.root)) for runs in opened]  # noqa: PTH100  (resolve() would follow links)
    common = Path(os.path.commonpath(homes))
    if (common / MANIFEST).exists():  # a run is called by its own name
        common = common.parent
    kinds: dict[str, str] = {}
    rows: dict[str, Mapping[str, Any]] = {}
    for runs, home in zip(opened, homes, strict=True):
        kinds |= runs.kinds
        for row in runs.rows:
            place = Path(os.path.relpath(home / row["run"], common)).as_posix()
            rows.setdefault(place, {**row, "run": place})
    if not rows:
        fitting = "" if where is None else f" that fits {where!r}"
        raise InputError(f"no run{fitting} in {', '.join(paths)}; `limen ls` lists them.")
    full = [{name: row.get(name) for name in (*kinds, *also)} for row in rows.values()]
    return Runs(common, full, kinds)


def _check(names: Sequence[str], found: Sequence[tuple[Run, Mapping[str, Series]]]) -> None:
    """Refuse a name that no run has."""
    for name in names:
        if found and not any(name in records for _, records in found):
            known = sorted({known for run, _ in found for known in run.names()})
            raise InputError(
                f"no run has records of {name!r}.{nearest(name, known)} There are: {', '.join(known)}."
            )


def _aligned(
    name: str, records: Sequence[Series | None], steps: NDArray[np.int64]
) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Return dimensions and values (run, step, …), nan where a run has none."""
    shapes = [series.values.shape[1:] for series in records if series is not None]
    if len({len(shape) for shape in shapes}) > 1:
        raise InputError(f"{name!r} has another number of axes in some runs; choose runs that are alike.")
    shape = tuple(
        max(sizes) for sizes in zip(*shapes, strict=True)
    )  # lists of eigenvalues may differ in length
    kinds = [series.values.dtype for series in records if series is not None]
    dtype = np.result_type(np.float32, *kinds) if kinds else np.dtype(np.float64)
    out = np.full((len(records), len(steps), *shape), np.nan, dtype=dtype)
    for row, series in zip(out, records, strict=True):
        if series is not None:
            inside = tuple(slice(size) for size in series.values.shape[1:])
            row[(np.searchsorted(steps, series.steps), *inside)] = series.values
    axes = [f"{name}_axis{'' if index == 0 else index}" for index in range(len(shape))]
    return ("run", "step", *axes), out


def _plain(values: Sequence[Any]) -> NDArray[Any]:
    """Return words as numbers where they are, nan for None, else as text."""
    try:
        if all(value is not None for value in values) and all(value == int(value) for value in values):
            return np.array(values, dtype=np.int64)
        return np.array([np.nan if value is None else float(value) for value in values])
    except (TypeError, ValueError):
        return np.array(["" if value is None else str(value) for value in values])
