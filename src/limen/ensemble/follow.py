"""The loop of an ensemble: blocks of steps together, then each member's own records, measurements and end."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from limen.ensemble import block as blocks
from limen.ensemble import states
from limen.ensemble.block import READ, Block
from limen.errors import InputError
from limen.objectives.batched import Batched
from limen.run import ALWAYS_SAFE, Experiment, Goals
from limen.store.interrupts import Interrupts
from limen.store.session import Session
from limen.store.writer import abandon, conclude
from limen.types import End, Event, Mark, Memory, Probe, Record, State, Status

BLOCK_STEPS = 100
"""Steps of a block at the most: what a signal to stop, and a reader of the folders, may have to wait for."""

BLOCK_BYTES = 64 << 20
"""Of the states that a block keeps, so that a member may end at any of its steps."""

Listen = Callable[[int, Event], object]
"""Called with a member's number and a mark or its end."""


@dataclass
class Member:
    """One run of an ensemble.

    Attributes:
        number: by which it is known to who listens.
        session: writes its folder.
        experiment: what it runs.
        save_model: whether to write its weights at the end.
        memory: of its probes.
        open: whether it goes on.
        alone: its own probes that measure it by itself.
    """

    number: int
    session: Session
    experiment: Experiment
    save_model: bool = False
    memory: dict[str, Memory] = field(default_factory=dict)
    open: bool = True

    def __post_init__(self) -> None:
        self.memory = dict(self.session.mark.memory)
        self.alone = [probe for probe in self.experiment.probes if type(probe) not in READ]


def follow(
    members: Sequence[Member],
    objective: Batched,
    boundaries: Sequence[int],
    interrupts: Interrupts,
    listen: Listen,
) -> None:
    """Advance members to their ends, and keep what is seen on the way; those behind first catch up with the next.

    The numbers of a member's dynamics are in its state, so the first member's rule is everyone's. A member that
    diverges, reaches its goal or fails (a disk that is full, a probe that raises) ends there; the others go on.

    Args:
        members: they differ in state and in numbers of the dynamics; probes, steps and goals are alike.
        objective: of every member.
        boundaries: periods, in steps, at which a block must begin: where checkpoints and results are written.
        interrupts: ends all members at a step boundary.
        listen: see `Listen`.

    Raises:
        KeyboardInterrupt: a second signal came; the caller abandons the members that are still open.
    """
    experiment = members[0].experiment
    together = [probe for probe in experiment.probes if type(probe) in READ]
    periods = [
        every for every in (*boundaries, *(probe.schedule.every for probe in members[0].alone)) if every > 0
    ]
    goals = experiment.stop
    if not isinstance(goals, Goals):
        raise InputError(f"members that advance together stop by Goals, got {goals!r}. Use --ensemble off.")
    here: list[Member] = []
    ahead = sorted(members, key=_step)
    state, step = None, 0
    while ahead or any(member.open for member in here):
        if not any(member.open for member in here):
            here, state, step = [], None, _step(ahead[0])
        if arrived := [member for member in ahead if _step(member) == step]:
            more = states.stack([member.session.mark.state for member in arrived])
            state = more if state is None else states.join(state, more)
            here, ahead = [*here, *arrived], ahead[len(arrived) :]
        assert state is not None  # somebody is here
        if step >= experiment.steps:
            _end_all(here, state, step, End(Status.FINISHED, f"all {experiment.steps} steps done"), listen)
            continue
        if 2 * sum(member.open for member in here) <= len(here):
            index = [i for i, member in enumerate(here) if member.open]
            state, here = states.some(state, index), [here[i] for i in index]
        stop = min(
            experiment.steps,
            step + blocks.size(state, BLOCK_BYTES, BLOCK_STEPS),
            *(step - step % every + every for every in periods),
            *map(_step, ahead[:1]),
        )
        with interrupts.may_raise():
            block = blocks.advance(
                objective,
                experiment.dynamics,
                together,
                state,
                step,
                stop,
                lambda: interrupts.asked is not None,
            )
        diverged, reached = block.diverged(), block.reached(goals)
        for i, member in enumerate(here):
            if member.open:
                with _guarded(member):
                    end = _keep(member, objective, block, i, diverged[i], reached[i], interrupts)
                    listen(member.number, member.session.mark)
                    if end is not None:
                        _end(member, end, listen)
        state, step = block.states[-1], block.stop
        if interrupts.asked and step < experiment.steps:
            _end_all(here, state, step, _interrupted(interrupts, step), listen)
            for member in ahead:
                with _guarded(member):
                    _end(member, _interrupted(interrupts, _step(member)), listen)
            return


def _step(member: Member) -> int:
    return member.session.mark.step


def _interrupted(interrupts: Interrupts, step: int) -> End:
    return End(Status.INTERRUPTED, f"{interrupts.asked} before step {step}; --resume goes on")


@contextlib.contextmanager
def _guarded(member: Member) -> Iterator[None]:
    """End a member as failed where it raises, so that the others may go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (whatever a probe raises: it is written to this member's run.json)
        member.open = False
        abandon(member.session, error)


def _keep(
    member: Member,
    objective: Batched,
    block: Block,
    i: int,
    diverged: int | None,
    reached: int | None,
    interrupts: Interrupts,
) -> End | None:
    """Keep what a block tells of member `i`, and measure it by itself where that is due; return its end, if any."""
    session, first = member.session, block.first
    ends = [step for step in (diverged, reached) if step is not None]
    last = min(ends, default=None)
    stop = block.stop if last is None else last
    state = states.one(block.states[0], i)
    session.boundary(Mark(first, state, dict(member.memory)))
    due = [probe for probe in member.alone if probe.schedule.due(first)]
    begun = first
    if due:  # the lines of a step stand in the order of the probes
        session.extend([rows.between(first, first + 1) for rows in block.rows[i]])
        begun = first + 1
        if diverged == first:
            due = [probe for probe in due if probe.need in ALWAYS_SAFE]
        with interrupts.may_raise():
            records = list(_measure(member, due, state, first))
        for record in records:
            session.take(record)
    session.extend([rows.between(begun, stop) for rows in block.rows[i]])
    if last is None:
        return None
    if last > first:
        session.boundary(Mark(last, states.one(block.states[last - first], i), dict(member.memory)))
    session.extend([rows.between(max(begun, last), last + 1) for rows in block.rows[i]])
    if last == diverged:
        return End(Status.DIVERGED, f"loss not finite at step {last}; {member.experiment.dynamics.remedy}")
    why = member.experiment.stop(objective.at(states.some(block.states[last - first], [i])), last)
    return End(Status.FINISHED, why or f"a goal was reached at step {last}")


def _measure(member: Member, due: Sequence[Probe], state: State, step: int) -> Iterator[Record]:
    """Let probes measure one member, as the loop of a single run does."""
    if not due:
        return
    need = functools.reduce(operator.or_, (probe.need for probe in due))
    point = member.experiment.objective.at(state, None, need)
    for probe in due:
        values, member.memory[probe.name] = probe.measure(point, step, state, member.memory[probe.name])
        if values:
            yield Record(probe.name, step, float(state.t), values, probe.branch)


def _end(member: Member, end: End, listen: Listen) -> None:
    conclude(member.session, member.experiment, end, save_model=member.save_model)
    member.open = False
    listen(member.number, end)


def _end_all(members: Sequence[Member], state: State, step: int, end: End, listen: Listen) -> None:
    for i, member in enumerate(members):
        if member.open:
            with _guarded(member):
                member.session.boundary(Mark(step, states.one(state, i), dict(member.memory)))
                _end(member, end, listen)
