"""From specs to recorded runs that advanced together."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence

from limen.config import Built, Spec, build
from limen.ensemble.follow import Listen, Member, follow
from limen.ensemble.grouping import kind_of, may
from limen.errors import InputError, LimenError
from limen.launch import begun, launch, surroundings
from limen.objectives import Supervised
from limen.objectives.batched import Batched
from limen.store import Run, open_run
from limen.store.interrupts import Interrupts
from limen.store.session import SHARE
from limen.store.writer import abandon, opened
from limen.store.writer import follow as follow_alone


def launch_together(
    specs: Sequence[Spec],
    *,
    resume: bool = True,
    overwrite: bool = False,
    mode: str = "on",
    matmul: str | None = None,
    listen: Listen | None = None,
    tell: Callable[[str], object] | None = None,
) -> list[Run]:
    """Run `specs`, one of `groups`, as one computation; record each in its own folder and return the runs.

    A run's `run.json` says under `ensemble` how many advanced together, in which mode and by which kernel. Members
    that have ended are left as they are; those to be resumed advance together with the ones that stand at the same
    step. One alone is run as the single command runs it. A member that diverges, reaches its goal or fails ends by
    itself: `Run.status` says how. The first signal to stop ends all with a checkpoint.

    Args:
        specs: they differ in lr, beta and seed alone.
        resume: go on with unfinished runs; begin where there is none.
        overwrite: discard the runs that are there.
        mode: of the ensemble, for run.json.
        matmul: mode of float32 products for runs that begin; None for the fastest accurate one.
        listen: called with a spec's index and a mark at every block of steps, and with its end.
        tell: called with what a user should hear at once.

    Raises:
        InputError: the specs are not of one group, or do not fit the data or the network.
        StoreError: a folder is taken or cannot be written; the other members have run all the same.
    """
    if len(specs) == 1:
        hear = None if listen is None else functools.partial(listen, 0)
        return [launch(specs[0], resume=resume, overwrite=overwrite, matmul=matmul, listen=hear, tell=tell)]
    built = [build(spec) for spec in specs]
    objective = _shared(specs, built)
    before = next((run for part in built if resume and (run := begun(part.folder))), None)
    around = surroundings(objective.device, before, matmul)
    ensemble = {"members": len(specs), "mode": mode, "kernel": objective.kernel}
    refused: list[LimenError] = []
    members: list[Member] = []
    with contextlib.ExitStack() as stack:
        for number, (spec, part) in enumerate(zip(specs, built, strict=True)):
            info = {**part.info, **around, "ensemble": ensemble}
            folder = opened(
                part.folder,
                part.experiment,
                spec=spec.to_dict(),
                info=info,
                resume=resume,
                overwrite=overwrite,
                checkpoint_freq=spec.checkpoint_freq,
                save_freq=spec.save_freq,
                share=SHARE / len(specs),
                tell=tell,
            )
            try:
                session = stack.enter_context(folder)
            except LimenError as error:
                refused.append(error)
                continue
            if session is not None:
                members.append(Member(number, session, part.experiment, spec.save_model))
        boundaries = (specs[0].checkpoint_freq, specs[0].save_freq)
        _run(members, objective, boundaries, listen or _silent, tell or _silent)
    if refused:
        for other in refused[1:]:
            refused[0].add_note(str(other))
        raise refused[0]
    return [open_run(part.folder) for part in built]


def _run(
    members: Sequence[Member],
    objective: Batched,
    boundaries: Sequence[int],
    listen: Listen,
    tell: Callable[[str], object],
) -> None:
    with Interrupts(tell) as interrupts:
        try:
            for level in _levels(members):
                if len(level) > 1:
                    follow(level, objective, boundaries, interrupts, listen)
                else:
                    _follow_one(level[0], interrupts, listen)
        except BaseException as error:
            for member in members:
                if member.open:
                    abandon(member.session, error)
            raise


def _levels(members: Sequence[Member]) -> list[list[Member]]:
    """Return members by the step at which they stand, those furthest behind first."""
    levels: dict[int, list[Member]] = {}
    for member in members:
        levels.setdefault(member.session.mark.step, []).append(member)
    return [levels[step] for step in sorted(levels)]


def _follow_one(member: Member, interrupts: Interrupts, listen: Listen) -> None:
    member.open = False
    with contextlib.suppress(Exception):  # run.json says that it failed, and why
        follow_alone(
            member.session,
            member.experiment,
            member.save_model,
            interrupts,
            lambda event: listen(member.number, event),
        )


def _shared(specs: Sequence[Spec], built: Sequence[Built]) -> Batched:
    """Return the landscape that all members share, or refuse."""
    objectives = [part.experiment.objective for part in built]
    first = objectives[0]
    told = [{**objective.describe(), "start": None} for objective in objectives]
    if not may(specs[0]) or len(set(map(kind_of, specs))) > 1 or any(each != told[0] for each in told):
        raise InputError(
            "specs that advance together are of limen gd, by a rule of ours without track_flow, on the same data, and "
            "differ in lr, beta and seed alone; these do not. Choose them with limen.ensemble.groups."
        )
    assert isinstance(first, Supervised)  # what build makes
    return Batched(first)


def _silent(*anything: object) -> None:
    """Tell nobody."""
