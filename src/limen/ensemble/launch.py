"""From specs to recorded runs that advanced together."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limen.config import Built, Spec, build
from limen.ensemble.follow import Listen, Member, follow
from limen.ensemble.grouping import kind_of, may
from limen.errors import InputError, LimenError
from limen.launch import begun, launch, surroundings
from limen.objectives import Supervised
from limen.objectives.batched import Batched
from limen.store import Run, manifest, open_run
from limen.store.interrupts import Interrupts
from limen.store.session import SHARE
from limen.store.writer import abandon, opened
from limen.store.writer import follow as follow_alone
from limen.types import Status


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

    A run's `run.json` says under `ensemble` how many have advanced together since it began or was last resumed, in
    which mode and by which kernel; null is for one alone, which is run as the single command runs it. Members that have
    ended are left as they are; of those to be resumed the ones behind catch up first. Runs that began with different
    modes of float32 products keep them, and advance in an ensemble for each mode. A member that diverges, reaches its
    goal or fails ends by itself: `Run.status` says how. The first signal to stop ends all with a checkpoint.

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
    before = [begun(part.folder) if resume else None for part in built]
    new = surroundings(objective.device, None, matmul)["matmul"]
    parts: dict[str, list[int]] = {new: []}  # first: where a signal ends this part, all runs have begun
    for number, run in enumerate(before):
        parts.setdefault(new if run is None else run.info.get("matmul") or new, []).append(number)
    group = _Group(specs, built, objective, resume, overwrite, listen or _silent, tell or _silent)
    refused: list[LimenError] = []
    with Interrupts(tell or _silent) as interrupts:
        for used, numbers in parts.items():
            if not interrupts.asked:
                going = sum(_goes_on(before[number], specs[number], built[number]) for number in numbers)
                told = {"members": going, "mode": mode, "kernel": objective.kernel} if going > 1 else None
                around = {**surroundings(objective.device, None, used), "ensemble": told}
                refused += group.run(numbers, around, interrupts)
    if refused:
        for other in refused[1:]:
            refused[0].add_note(str(other))
        raise refused[0]
    return [open_run(part.folder) for part in built]


def _goes_on(before: Run | None, spec: Spec, part: Built) -> bool:
    """Whether something is left to do for a run, as `store` will find once it holds its folder."""
    if before is None or before.status not in (Status.FINISHED, Status.DIVERGED):
        return True
    same = before.spec == manifest.plain(spec.to_dict(), "spec")
    enough = same or before.info.get("reached", 0) >= part.experiment.steps
    return not (enough or before.status is Status.DIVERGED)


@dataclass(frozen=True)
class _Group:
    """What all parts of an ensemble share."""

    specs: Sequence[Spec]
    built: Sequence[Built]
    objective: Batched
    resume: bool
    overwrite: bool
    listen: Listen
    tell: Callable[[str], object]

    def run(
        self, numbers: Sequence[int], around: Mapping[str, Any], interrupts: Interrupts
    ) -> list[LimenError]:
        """Run some of the specs to their ends; return why some could not be opened."""
        refused: list[LimenError] = []
        members: list[Member] = []
        with contextlib.ExitStack() as stack:
            for number in numbers:
                spec, part = self.specs[number], self.built[number]
                folder = opened(
                    part.folder,
                    part.experiment,
                    spec=spec.to_dict(),
                    info={**part.info, **around},
                    resume=self.resume,
                    overwrite=self.overwrite,
                    checkpoint_freq=part.keeping.checkpoint_freq,
                    save_freq=part.keeping.save_freq,
                    share=SHARE / len(self.specs),
                    tell=self.tell,
                )
                try:
                    session = stack.enter_context(folder)
                except LimenError as error:
                    refused.append(error)
                    continue
                if session is not None:
                    members.append(Member(number, session, part.experiment, part.keeping.save_model))
            if refused:
                _tell_how_many(members, around["ensemble"])
            self._follow(members, interrupts)
        return refused

    def _follow(self, members: Sequence[Member], interrupts: Interrupts) -> None:
        keeping = self.built[0].keeping
        boundaries = (keeping.checkpoint_freq, keeping.save_freq)
        try:
            if len(members) > 1:
                follow(members, self.objective, boundaries, interrupts, self.listen)
            elif members:
                _follow_one(members[0], interrupts, self.listen)
        except BaseException as error:
            for member in members:
                if member.open:
                    abandon(member.session, error)
            raise


def _tell_how_many(members: Sequence[Member], ensemble: Mapping[str, Any] | None) -> None:
    """Have run.json say how many there are, where fewer could be opened than were thought."""
    told = {**ensemble, "members": len(members)} if ensemble and len(members) > 1 else None
    for member in members:
        member.session.info["ensemble"] = told
        manifest.save(member.session.folder, member.session.info)


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
