"""A run folder while it is being written.

Order of writing: blocks, then lines, then (at a checkpoint, after both are on the disk) the checkpoint; so a
checkpoint is never ahead of the records.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from limen.errors import StoreError
from limen.store import checkpoints, files, layout, lines, manifest, published
from limen.store.blocks import Blocks
from limen.store.checkpoints import Extent
from limen.store.lines import Columns, Rows
from limen.store.manifest import Manifest
from limen.store.published import Files
from limen.store.resume import Start
from limen.types import End, Mark, Objective, Record

FLUSH_SECONDS = 1.0
CHECKPOINT_SECONDS = 30.0
SHARE = 0.05
"""Of the time that checkpoints by the clock may take at the most."""

FilesOf = Callable[[Path, Mapping[str, Any], Columns], Files]
"""Makes what a run publishes, from its folder, the words of its spec, and what is recorded already."""


class Session:
    """Keeps what an experiment yields in a folder whose lock is held.

    Attributes:
        mark: the last boundary that the run has passed.
    """

    def __init__(
        self,
        folder: Path,
        info: Manifest,
        start: Start,
        *,
        checkpoint_freq: int,
        save_freq: int,
        share: float = SHARE,
        files_of: FilesOf = published.Published,
    ) -> None:
        self.folder, self.info, self.mark = folder, info, start.mark
        self._checkpoint_freq, self._save_freq, self._share = checkpoint_freq, save_freq, share
        self._extent = start.extent
        self._saved = start.mark.step or None
        self._first, self._checked = start.mark.step, False
        self._began = time.monotonic() - start.extent.seconds
        self._flushed = self._due = time.monotonic()
        self._due += CHECKPOINT_SECONDS
        self._last_step = start.mark.step
        self._scalars = files.Lines(folder / layout.SCALARS)
        self._timing = files.Lines(folder / layout.TIMING)
        self._blocks = Blocks(folder)
        self._published = files_of(folder, info["spec"], start.columns)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        """Say what is safe when the disk refuses."""
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.folder}: {error.strerror or error}. {self._safe()}") from error

    def _safe(self) -> str:
        waiting = [
            step for part in (self._scalars, self._blocks) if (step := part.first_waiting()) is not None
        ]
        upto = f"before step {min(waiting)}" if waiting else f"up to step {self._last_step}"
        back = f"checkpoint {self._saved}" if self._saved is not None else "step 0, for want of a checkpoint"
        return (
            f"Safe on disk: the records {upto}. Free space (or lift the limit on file sizes), "
            f"then --resume goes on from {back}."
        )

    def take(self, record: Record) -> None:
        """Keep a record: tensors in blocks, the rest as a line."""
        text: dict[str, Any] = {}
        for name, value in record.values.items():
            layout.check_name(name, record.probe)
            if isinstance(value, Tensor):
                with self._disk():
                    self._blocks.add(lines.key_of(name, record.branch), record.step, record.t, value)
            else:
                text[name] = value
        self._scalars.add(record.step, lines.encode(record.probe, record.step, record.t, text, record.branch))
        if not record.branch:
            self._published.add({"step": record.step, "t": record.t, "values": text})
        self._last_step = record.step
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def extend(self, parts: Sequence[Rows]) -> None:
        """Keep what probes recorded over the same steps, step by step and in their order, as `take` would."""
        steps: list[int] = []
        text: list[str] = []
        for rows in parts:
            if not rows.steps:
                continue
            for name in rows.values:
                layout.check_name(name, rows.probe)
            steps += rows.steps
            text += lines.encode_rows(rows)
            self._published.extend(rows)
        if not steps:
            return
        if len(parts) > 1:
            order = sorted(range(len(steps)), key=steps.__getitem__)  # stable: probes keep their order
            steps, text = [steps[i] for i in order], [text[i] for i in order]
        self._scalars.extend(steps, text)
        self._last_step = steps[-1]
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def boundary(self, mark: Mark) -> None:
        """Note where the run may be taken up, and do what is due there."""
        self.mark = mark
        self._extent = Extent(
            self._scalars.total, self._timing.total, self._blocks.rows(), time.monotonic() - self._began
        )
        with self._disk():
            self._published.boundary(mark)
        if mark.step == self._first:
            return
        if self._save_freq > 0 and mark.step % self._save_freq == 0:
            self.publish("")
        by_clock = self._checkpoint_freq < 0 and time.monotonic() > self._due
        if by_clock or (self._checkpoint_freq > 0 and mark.step % self._checkpoint_freq == 0):
            self.checkpoint()

    def flush(self) -> None:
        """Hand what waits to the operating system.

        Raises:
            StoreError: the disk is full or gone.
        """
        seconds = round(time.monotonic() - self._began, 3)
        self._timing.add(
            self._last_step, json.dumps({"step": self._last_step, "seconds": seconds, "time": manifest.now()})
        )
        with self._disk():
            self._blocks.flush()
            self._scalars.flush()
            self._timing.flush()
        self._flushed = time.monotonic()

    def checkpoint(self) -> None:
        """Make the last boundary a place to resume from, unless it is one.

        Raises:
            StoreError: the disk is full or gone.
        """
        if self._saved == self.mark.step:
            return
        began = time.monotonic()
        self.flush()
        with self._disk():
            self._blocks.sync()
            self._scalars.sync()
            files.sync(self.folder)
            checkpoints.save(self.folder, self.mark, self._extent, self.info["id"], check=not self._checked)
        self._saved, self._checked = self.mark.step, True
        self._due = time.monotonic() + max(CHECKPOINT_SECONDS, (time.monotonic() - began) / self._share)

    def publish(self, suffix: str) -> None:
        """Write the published tensors of what has been recorded.

        Raises:
            StoreError: the disk is full or gone.
        """
        self.flush()
        with self._disk():
            self._published.write(suffix)

    def snapshot(self, objective: Objective) -> None:
        """Write the parameters as the user's module names them.

        Raises:
            StoreError: the disk is full or gone.
        """
        with self._disk():
            published.save(self.folder / layout.SNAPSHOT, objective.state_dict(self.mark.state))

    def end(self, end: End) -> None:
        """Say in `run.json` how the run stands.

        Raises:
            StoreError: it cannot be written.
        """
        self.info |= {
            "status": end.status,
            "why": end.why,
            "ended": manifest.now(),
            "reached": self.mark.step,
        }
        with self._disk():
            manifest.save(self.folder, self.info)

    def close(self) -> None:
        """Let go of the files."""
        self._scalars.close()
        self._timing.close()
