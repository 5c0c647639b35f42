"""A progress bar with the numbers that matter, and the words at the end of a run."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

from limen.cli.ls import top
from limen.types import Event, Mark, Record

if TYPE_CHECKING:
    from limen.store import Run

BRANCHES = {"tighter": "the flow at a tenth of rtol", "flow": "the gradient flow"}
"""How a reader calls the branches of a composite."""
UNRESOLVED = 0.05
"""Error of a flow, relative to its displacement, that deserves a warning."""


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
    lines = [
        f"{run.status}: {run.why}",
        *said,
        ", ".join(numbers),
        *_apart(last),
        _accuracy(run),
        str(run.folder),
    ]
    return "\n".join(line for line in lines if line)


def _apart(last: Mapping[str, float]) -> list[str]:
    """Say how far the branches of a composite ended from the main trajectory."""
    said = []
    for branch, words in BRANCHES.items():
        if f"{branch}/relative" in last:
            apart, gap = last[f"{branch}/relative"], last[f"{branch}/loss_gap"]
            unresolved = branch == "tighter" and apart > UNRESOLVED
            remedy = "; the tolerance does not resolve it any more, lower --rtol" if unresolved else ""
            said.append(f"distance from {words}: {apart:.2g} of the displacement, loss {gap:+.2g}{remedy}")
    return said


def _accuracy(run: Run) -> str:
    """Say what is known of the accuracy of a flow that is not certified, and where its tolerance could not be held."""
    if run.spec.get("command") != "flow" or "local_error" not in run.names():
        return ""
    words = []
    forced = int(run.series("forced").values.sum())
    if forced:
        words.append(f"{forced} internal steps above the tolerance, at kinks of the network")
    if "tighter/relative" not in run.names() and run.spec.get("integrator") != "rk4":
        words.append(
            f"rtol {run.spec['rtol']:g} bounds the error of one internal step; --certify measures that of the flow"
        )
    return "; ".join(words)
