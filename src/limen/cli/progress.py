"""A progress bar with the numbers that matter, and the words at the end of a run."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

from limen.cli.ls import top
from limen.types import Event, Mark, Record

if TYPE_CHECKING:
    from limen.store import Run


class Progress:
    """Shows step, loss, accuracy and sharpness / threshold on a terminal, and nothing elsewhere.

    Attributes:
        total: number of steps.
        threshold: sharpness threshold of the dynamics, or None.
        quiet: show nothing even on a terminal.
    """

    def __init__(self, total: int, threshold: float | None, *, quiet: bool = False) -> None:
        self.threshold, self.quiet = threshold, quiet
        self.shown: dict[str, str] = {}
        hidden = quiet or not sys.stderr.isatty()
        self.bar = tqdm(total=total, unit="step", disable=hidden, dynamic_ncols=True, mininterval=0.2)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def __call__(self, event: Event) -> None:
        """Take one event of the run."""
        if self.bar.disable:
            return
        match event:
            case Mark(step=step):
                self.bar.set_postfix(self.shown, refresh=False)
                self.bar.update(step - self.bar.n)
            case Record(values=values):
                self._remember(values)

    def tell(self, message: str) -> None:
        """Say something at once on standard error, also from a signal's handler."""
        if self.quiet:
            return
        below_bar = "" if self.bar.disable else "\n"
        # Past Python's buffers, which a handler may have found half written; and nobody may be reading.
        with contextlib.suppress(OSError):
            os.write(2, f"{below_bar}limen: {message}\n".encode())

    def _remember(self, values: object) -> None:
        match values:
            case {"train_loss": loss, **rest}:
                self.shown["loss"] = f"{loss:.3g}"
                if "train_acc" in rest:
                    self.shown["acc"] = f"{rest['train_acc']:.3f}"
            case {"eigs": [top, *_]}:
                ratio = f" = {top / self.threshold:.3f}×threshold" if self.threshold else ""
                self.shown["sharpness"] = f"{top:.3g}{ratio}"


def summary(run: Run, notes: Sequence[str] = ()) -> str:
    """Return a few lines: how the run ended, what a reader should know, where it stands, and its folder."""
    last = run.summary()
    numbers = [f"{name} {last[name]:.6g}" for name in ("train_loss", "train_acc", "test_acc") if name in last]
    if run.threshold and (sharpness := top(run)) is not None:
        numbers.append(f"sharpness {sharpness:.6g} = {sharpness / run.threshold:.3f} × threshold")
    said = [f"note: {note}" for note in notes]
    lines = [f"{run.status}: {run.why}", *said, ", ".join(numbers), str(run.folder)]
    return "\n".join(line for line in lines if line)
