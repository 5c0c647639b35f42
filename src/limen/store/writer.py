"""`record`: run an experiment and keep what it yields."""

from __future__ import annotations

import contextlib
import platform
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch

from limen import __version__
from limen.errors import InputError, LimenError, StoreError
from limen.run import Experiment
from limen.store import layout, lock, manifest, read, resume
from limen.store.interrupts import Interrupts
from limen.store.manifest import Manifest
from limen.store.published import Published
from limen.store.read import Run
from limen.store.resume import Start
from limen.store.session import SHARE, FilesOf, Session
from limen.types import End, Event, Events, Mark, Record, Status

Listen = Callable[[Event], object]
Tell = Callable[[str], object]


def record(
    folder: Path | str,
    experiment: Experiment,
    *,
    spec: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_freq: int = -1,
    save_freq: int = -1,
    save_model: bool = False,
    files_of: FilesOf = Published,
    began: Callable[[Mark | None], object] | None = None,
    listen: Listen | None = None,
    tell: Tell | None = None,
) -> Run:
    """Run `experiment` and keep everything in `folder`; return the run however it ended.

    Ctrl-C and SIGTERM end it at the next step boundary as interrupted, with a checkpoint; a second one
    raises KeyboardInterrupt at once, and the folder can still be resumed.

    Args:
        folder: of the run, made if need be.
        experiment: what to run.
        spec: the words that describe it (JSON-able), empty from Python.
        info: more for `run.json` (JSON-able). `data_hash` in it must agree when a run is resumed.
        resume: go on with the run in `folder`, if there is one, bit for bit as if it had never stopped (given
            the same versions, device and thread count; what differs is in `Run.notes`). What is damaged, and
            what lies after it, is moved to `set_aside/<n>` in the folder.
        overwrite: discard the run in `folder`; of its files only those that limen wrote.
        checkpoint_freq: steps between checkpoints; -1 for about every 30 seconds.
        save_freq: steps between versions of the published tensors on the way; -1 for never.
        save_model: write `snapshot_final`, the state_dict at the end.
        files_of: makes what is published beside limen's own records.
        began: called with where the run begins once its folder is held; with None if nothing is left to do.
        listen: called with every event.
        tell: called with what a user should hear at once: the notes of a resume, and that a signal was
            understood (from its handler, so nothing in there may wait).

    Raises:
        InputError: an argument does not fit, or the experiment refuses to begin.
        StoreError: another process writes here, there is a run already, it is another one than asked, or the
            disk is full or cannot be written.
    """
    with opened(
        folder,
        experiment,
        spec=spec,
        info=info,
        resume=resume,
        overwrite=overwrite,
        checkpoint_freq=checkpoint_freq,
        save_freq=save_freq,
        files_of=files_of,
        tell=tell,
    ) as session:
        if began is not None:
            began(None if session is None else session.mark)
        if session is not None:
            with Interrupts(tell or _silent, at_once=experiment.dynamics.lengthy) as interrupts:
                follow(session, experiment, save_model, interrupts, listen or _silent)
    return read.open_run(Path(folder))


@contextlib.contextmanager
def opened(
    folder: Path | str,
    experiment: Experiment,
    *,
    spec: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_freq: int = -1,
    save_freq: int = -1,
    share: float = SHARE,
    files_of: FilesOf = Published,
    tell: Tell | None = None,
) -> Iterator[Session | None]:
    """Hold the folder of a run and give the session that writes there; None if nothing is left to do.

    Arguments and errors are those of `record`; `share` is the part of the time that checkpoints by the clock may take.
    """
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other: go on with the run, or discard it.")
    for name, freq in (("checkpoint_freq", checkpoint_freq), ("save_freq", save_freq)):
        if freq < 1 and freq != -1:
            raise InputError(f"{name} must be at least 1 (or -1 for the default), got {freq}.")
    folder, tell = Path(folder), tell or _silent
    beginning = experiment.begin()  # refuses what does not fit before the disk is touched
    new = _describe(experiment, spec or {}, info or {})
    session = None
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock.writing(folder))
            start = _prepare(folder, new, beginning, experiment, going_on=resume, overwrite=overwrite)
            if start is not None:
                for note in read.notes_of(new["resumed"][-1]) if new["resumed"] else []:
                    tell(note)
                session = Session(
                    *(folder, new, start),
                    checkpoint_freq=checkpoint_freq,
                    save_freq=save_freq,
                    share=share,
                    files_of=files_of,
                )
                stack.callback(session.close)
        except OSError as error:
            raise StoreError(
                f"{folder} cannot be written ({error.strerror or error}). "
                "Free space, mend its permissions, or choose another folder."
            ) from error
        yield session


def _silent(anything: object) -> None:
    """Tell nobody."""


def _describe(experiment: Experiment, spec: Mapping[str, Any], info: Mapping[str, Any]) -> Manifest:
    own = {
        "format": layout.FORMAT,
        "id": uuid.uuid4().hex,
        "status": Status.RUNNING.value,
        "why": "",
        "spec": manifest.plain(spec, "spec"),
        "experiment": manifest.plain(experiment.describe(), "experiment.describe()"),
        "max_steps": experiment.steps,
        "threshold": manifest.plain(experiment.dynamics.threshold(), "the threshold"),
        "versions": {
            "limen": __version__,
            "torch": str(torch.__version__),
            "numpy": numpy.__version__,
            "python": platform.python_version(),
        },
        "device": str(experiment.objective.device),
        "hardware": _hardware(experiment.objective.device),
        "threads": torch.get_num_threads(),
        "deterministic": _determinism(experiment.objective.device),
        "started": manifest.now(),
        "ended": None,
        "resumed": [],
    }
    if taken := sorted(manifest.RESERVED & info.keys()):
        raise InputError(f"info says {', '.join(taken)}, which run.json holds already; use other names.")
    return {**own, **manifest.plain(dict(info), "info")}


def _hardware(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def _determinism(device: torch.device) -> str:
    if device.type == "cpu":
        return "to the last bit at the same thread count and versions"
    if not torch.are_deterministic_algorithms_enabled():
        return "not asked for: results may differ in the last bits from run to run"
    if torch.is_deterministic_algorithms_warn_only_enabled():
        return "where deterministic algorithms exist; the others may differ in the last bits"
    return "to the last bit on the same kind of device and versions"


def _prepare(
    folder: Path, new: Manifest, beginning: Mark, experiment: Experiment, *, going_on: bool, overwrite: bool
) -> Start | None:
    """Leave the folder, whose lock is held, as a run needs it at its start; None if nothing is to do."""
    if overwrite or not manifest.exists(folder):
        found = layout.own_files(folder)
        if found and not overwrite:
            raise StoreError(
                f"{folder} holds {found[0].name} but no {layout.MANIFEST}, so it is no run to go on with. "
                "Choose another folder; --overwrite replaces what is there."
            )
        # The new id comes first: if erasing is cut short, what is left is not taken for the new run's.
        manifest.save(folder, new)
        layout.erase(folder)
        return Start(beginning)
    old = manifest.load(folder)
    status, why = read.standing(old)
    if not going_on:
        raise _refusal(folder, status, why, named_by_length="max_duration" in old.get("spec", {}))
    manifest.check_same(folder, old, new)
    if _complete(old, new, status):
        return None
    start = resume.find(folder, old, beginning, experiment.objective.device)
    entry = {
        "step": start.mark.step,
        "time": manifest.now(),
        "notes": [*start.notes, *manifest.changes(old, new)],
    }
    new |= {"id": old["id"], "started": old.get("started"), "resumed": [*old.get("resumed", []), entry]}
    manifest.save(folder, new)
    resume.cut(folder, start)
    return start


def _refusal(folder: Path, status: Status, why: str, *, named_by_length: bool) -> StoreError:
    if status is Status.RUNNING:
        status, why = Status.INTERRUPTED, read.ABANDONED
    ways = {
        Status.FINISHED: "--resume with a larger max_steps (max_time for a flow) goes on from its end, "
        "--overwrite discards it",
        Status.DIVERGED: "--overwrite discards it",
    }
    if named_by_length:  # a longer run has another folder
        ways[Status.FINISHED] = ways[Status.DIVERGED]
    way = ways.get(status, "--resume goes on with it, --overwrite discards it")
    return StoreError(
        f"{folder} holds a run already, {status} ({why}). Nothing is overwritten unasked: {way}."
    )


def _complete(old: Manifest, new: Manifest, status: Status) -> bool:
    """Whether nothing is left to do for a run that is asked to go on."""
    if status is Status.DIVERGED:
        return True
    same_words = bool(new["spec"]) and old.get("spec") == new["spec"]
    return status is Status.FINISHED and (same_words or old.get("reached", 0) >= new["max_steps"])


def follow(
    session: Session, experiment: Experiment, save_model: bool, interrupts: Interrupts, listen: Listen
) -> None:
    """Run the experiment from the session's mark, keep what it yields, and close the run however it ends."""
    try:
        end = _follow(session, experiment, interrupts, listen)
        conclude(session, experiment, end, save_model=save_model)
    except BaseException as error:
        abandon(session, error)
        raise
    listen(end)


def conclude(session: Session, experiment: Experiment, end: End, *, save_model: bool) -> None:
    """Leave the folder of a run that has ended.

    Raises:
        StoreError: the disk is full or gone.
    """
    session.checkpoint()
    session.publish("_final")
    if save_model:
        session.snapshot(experiment.objective)
    session.end(end)


def _follow(session: Session, experiment: Experiment, interrupts: Interrupts, listen: Listen) -> End:
    """Keep events until the end, or until a signal asks to stop."""
    events = _heard(experiment.run(session.mark), listen)
    while True:
        with interrupts.may_raise():
            event = next(events)
        match event:
            case Record():
                session.take(event)
            case Mark(step):
                session.boundary(event)
                if interrupts.asked and step < experiment.steps:
                    return End(Status.INTERRUPTED, f"{interrupts.asked} before step {step}; --resume goes on")
            case End():
                return event


def _heard(events: Events, listen: Listen) -> Events:
    """Yield the events; each is heard once it has been kept, when the next one is asked for."""
    for event in events:
        yield event
        listen(event)


def abandon(session: Session, error: BaseException) -> None:
    """Leave a folder that can be resumed; note on `error` what the disk did not allow."""
    if isinstance(error, KeyboardInterrupt):
        end = End(Status.INTERRUPTED, f"{error or 'Ctrl-C'}; --resume goes on from the last checkpoint")
    else:
        end = End(Status.FAILED, _reason(error))
    acts: list[Callable[[], None]] = [lambda: session.end(end)]
    if not isinstance(error, StoreError):
        acts = [session.checkpoint, lambda: session.publish("_final"), *acts]
    for act in acts:
        try:
            act()
        except LimenError as second:
            error.add_note(str(second))


def _reason(error: BaseException) -> str:
    text = (str(error).splitlines() or [""])[0]
    if isinstance(error, LimenError):
        return text
    return f"{type(error).__name__}: {text}; --resume goes on from the last checkpoint"
