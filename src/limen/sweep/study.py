"""The folder of a study: its plan, a log that only grows, and how its points stand.

`study.json` names the points and their run folders, `events.jsonl` has a line for each start and each end. Both are
for people and for counting: what a point has come to, its own run folder says.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limen import store
from limen.errors import StoreError
from limen.store import files, lock, manifest
from limen.store.lock import BusyError
from limen.sweep.plan import Plan, Point
from limen.types import Status

FORMAT = 1
PLAN, EVENTS, CANCEL = "study.json", "events.jsonl", "cancel"

REFUSED, WAITING = "refused", "waiting"
"""States of a point that no run has."""

ORDER = (
    Status.FINISHED,
    Status.DIVERGED,
    Status.RUNNING,
    Status.INTERRUPTED,
    WAITING,
    REFUSED,
    Status.FAILED,
)
"""In which states are counted up."""

MOVABLE = {"results", "data_dir", "device", "checkpoint_freq", "save_freq", "save_model"} | {
    *("exp_dir", "loggers", "dataloader", "save_interval"),
}
"""Options that do not change what a finished run has found."""

ENDS = {"max_steps", "max_time", "loss_goal", "acc_goal"}
"""Options that say only when a run ends."""


@dataclass(frozen=True)
class Standing:
    """How one point stands.

    Attributes:
        label: which.
        state: a run's status, or `waiting`, or `refused`.
        why: how it came to that.
        folder: of its run, where it has one.
    """

    label: str
    state: str
    why: str
    folder: Path | None


class Study:
    """A study on disk.

    Attributes:
        folder: where it lies.
        content: of `study.json`.
        results: the folder of results, from which run folders are named.
    """

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.folder, self.content = folder, content
        self.results = folder.resolve().parent.parent  # of `.` too

    def log(self, event: str, **about: Any) -> None:
        """Append an event; only whoever drives the study may.

        Raises:
            StoreError: it cannot be written.
        """
        line = json.dumps({"event": event, "time": manifest.now(), **about}, ensure_ascii=False)
        try:
            file = os.open(self.folder / EVENTS, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                size = os.fstat(file).st_size
                whole = size == 0 or os.pread(file, 1, size - 1) == b"\n"  # a crash may have left half a line
                os.write(file, ("" if whole else "\n").encode() + line.encode() + b"\n")
            finally:
                os.close(file)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events in their order; a line that a crash cut short is left out."""
        try:
            text = (self.folder / EVENTS).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        for line in text.splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue

    @property
    def stop(self) -> Path:
        """The file whose existence asks all that runs to end."""
        return self.folder / CANCEL

    def cancel(self) -> None:
        """Ask all that runs for the study, wherever it does, to end at its next step."""
        try:
            self.stop.touch()
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def driven(self) -> bool:
        """Whether a process drives the study now."""
        return lock.held(self.folder)

    def standings(self) -> list[Standing]:
        """Return how every point stands now.

        Raises:
            StoreError: `study.json` is not as limen wrote it.
        """
        last = {event["run"]: event for event in self.events() if "run" in event}
        try:
            found = [
                _standing(point, self.results / point["run"], last.get(point["run"]))
                for point in self.content["points"]
            ]
            refused = [Standing(r["label"], REFUSED, r["reason"], None) for r in self.content["refused"]]
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"{self.folder / PLAN} is not as limen wrote it ({error!r}). Run the sweep again: it is rebuilt."
            ) from error
        return found + refused


@contextlib.contextmanager
def driving(plan: Plan) -> Iterator[Study]:
    """Hold the study of `plan`, written or brought up to date; from here on a cancel is of this time.

    Raises:
        BusyError: another process drives it; nothing of it has been touched.
        StoreError: the folder cannot be written.
    """
    folder = plan.folder
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock.writing(folder))
            study = _write(plan)
            study.stop.unlink(missing_ok=True)
        except BusyError:
            raise BusyError(
                f"the study {folder} is driven by {lock.holder(folder)}. Wait for it, end it with "
                f"`limen sweep cancel {folder}`, or give this one another --name."
            ) from None
        except OSError as error:
            raise _unwritable(folder, error) from error
        yield study


def _write(plan: Plan) -> Study:
    """Write `study.json`, whose folder is held."""
    content = {
        "format": FORMAT,
        "title": plan.title,
        "points": [
            {
                "label": point.label,
                "run": relative(point.folder, plan.folder),
                "steps": point.spec.steps(),
                "spec": point.spec.to_dict(),
            }
            for point in plan.points
        ],
        "refused": [{"label": refusal.label, "reason": refusal.reason} for refusal in plan.refused],
    }
    files.replace(plan.folder / PLAN, json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")
    return Study(plan.folder, content)


def relative(folder: Path, study: Path) -> str:
    """Return a run folder as `study.json` names it: from the folder of results."""
    return Path(os.path.relpath(folder.resolve(), study.resolve().parent.parent)).as_posix()


def open_study(folder: Path | str) -> Study:
    """Return the study in `folder`.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        number = int(content["format"])
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            f"no study in {folder}: expected a {PLAN} there; `limen sweep` prints its path."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{folder / PLAN} cannot be read ({type(error).__name__}: {error}). "
            "Run the sweep again: it is rebuilt."
        ) from error
    if number > FORMAT:
        raise StoreError(
            f"{folder / PLAN} has format {number}, this limen reads up to {FORMAT}: upgrade limen."
        )
    return Study(folder, content)


def _standing(point: dict[str, Any], folder: Path, last: dict[str, Any] | None) -> Standing:
    """Return what the run says; where it was left unfinished, or is another one, what the log says of why."""
    label, run = point["label"], _run(folder)
    failed = last is not None and last.get("status") in (Status.FAILED, REFUSED)
    ours = run is not None and (not failed or _covers(run, point["spec"], point.get("steps", math.inf)))
    if run is not None and ours and run.status in (Status.FINISHED, Status.DIVERGED, Status.RUNNING):
        return Standing(label, run.status, run.why, folder)
    if last is not None and failed:
        return Standing(label, last["status"], last["why"], folder if run is not None else None)
    if run is not None:
        return Standing(label, run.status, run.why, folder)
    return Standing(label, WAITING, "not begun", None)


def _run(folder: Path) -> store.Run | None:
    if not manifest.exists(folder):
        return None
    try:
        return store.open_run(folder)
    except StoreError as error:
        return store.Run(folder, {}, Status.FAILED, str(error))


def over(point: Point) -> store.Run | None:
    """Return the run of a point if nothing is left to do for it."""
    run = _run(point.folder)
    if run is None or run.status not in (Status.FINISHED, Status.DIVERGED):
        return None
    spec = manifest.plain(point.spec.to_dict(), "spec")
    return run if _covers(run, spec, point.spec.steps()) else None


def _covers(run: store.Run, spec: dict[str, Any], steps: float) -> bool:
    """Whether a run that is over leaves nothing to do: it is the same, or else it diverged or did enough steps."""
    if _words(run.spec, MOVABLE) == _words(spec, MOVABLE):
        return True
    enough = run.status is Status.DIVERGED or run.info.get("reached", 0) >= steps
    return enough and _words(run.spec, MOVABLE | ENDS) == _words(spec, MOVABLE | ENDS)


def _words(spec: dict[str, Any], free: set[str]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name not in free}


def counts(states: Iterable[str]) -> str:
    """Return how many points are in each state, in words.

    >>> counts(["finished", "failed", "finished"])
    'finished 2, failed 1'
    """
    numbers = Counter(map(str, states))
    return ", ".join(f"{state} {numbers[state]}" for state in map(str, ORDER) if numbers[state])


def _unwritable(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{folder} cannot be written ({error.strerror or error}). "
        "Free space, mend its permissions, or choose other --results."
    )
