"""The tensors that the published plotting code reads (torch.load, float32), N steps and m measurements.

`train_loss`, `test_loss`, `train_acc`, `test_acc` have shape (N,), index = step, nan where nothing was
measured; `eigs` (m, neigs) and `iterates` (m, nproj) have a row a measurement. Those of a flow have `time` and
`times` (N,) beside them.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limen.store import blocks, files, layout
from limen.store.lines import Columns, Rows
from limen.types import Mark


class Files(ABC):
    """What a run leaves in its folder for other readers than limen, beside limen's own records."""

    @abstractmethod
    def add(self, entry: Mapping[str, Any]) -> None:
        """Take in a record of the main branch."""

    @abstractmethod
    def extend(self, rows: Rows) -> None:
        """Take in what a probe recorded at many steps."""

    @abstractmethod
    def boundary(self, mark: Mark) -> None:
        """Write what is due between two steps.

        Raises:
            OSError: it could not be written.
        """

    @abstractmethod
    def write(self, suffix: str = "") -> None:
        """Write what has been recorded; the records on disk are up to date.

        Raises:
            OSError: it could not be written.
        """


class Published(Files):
    """What has been recorded so far under the published names.

    Attributes:
        columns: those of them that are numbers or lists.
    """

    def __init__(self, folder: Path, spec: Mapping[str, Any], columns: Columns) -> None:
        self.folder, self.spec = folder, spec
        self.columns = Columns({name: column for name, column in columns.items() if name in layout.PUBLISHED})

    def add(self, entry: Mapping[str, Any]) -> None:
        """Take in a record of the main branch."""
        values = {name: value for name, value in entry["values"].items() if name in layout.PUBLISHED}
        self.columns.add({**entry, "values": values})

    def extend(self, rows: Rows) -> None:
        """Take in what a probe recorded at many steps."""
        values = {name: column for name, column in rows.values.items() if name in layout.PUBLISHED}
        self.columns.extend(replace(rows, values=values))

    def boundary(self, mark: Mark) -> None:
        """Do nothing: what is published on the way goes by `write`."""

    def write(self, suffix: str = "") -> None:
        """Write the tensors as `<name><suffix>`."""
        for name, tensor in self._tensors().items():
            save(self.folder / f"{name}{suffix}", tensor, sync=bool(suffix))

    def _tensors(self) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        if "train_loss" in self.columns:
            n = self.columns["train_loss"].steps[-1] + 1
            for name in layout.CURVES:
                out[name] = torch.full((n,), torch.nan)
                if name in self.columns:
                    column = self.columns[name]
                    out[name][torch.tensor(column.steps)] = torch.from_numpy(column.array()).float()
            if self.spec.get("command") == "flow":
                out |= dict.fromkeys(
                    layout.TIMES, torch.from_numpy(np.array(self.columns["train_loss"].t)).float()
                )
        for name, width in layout.ROWS.items():
            if name in self.columns:
                values = self.columns[name].array()
            elif name in layout.series_keys(self.folder):
                values = blocks.read(self.folder, name)[2]
            elif self.spec.get(width) is not None:
                values = np.empty((0, int(self.spec[width])))
            else:
                continue
            out[name] = torch.from_numpy(values.reshape(len(values), -1) if len(values) else values).float()
        return out


def save(path: Path, content: Any, *, sync: bool = True) -> None:
    """Write `content` with torch.save, atomically.

    Raises:
        OSError: it could not be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    files.replace(path, buffer.getbuffer(), sync=sync)
