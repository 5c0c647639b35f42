"""States of many members in one: w (m, p), and so for slots; t and each hyperparameter (m,)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from limen.errors import InputError
from limen.types import State


def stack(states: Sequence[State]) -> State:
    """Return the state of m members, each w (p,), as one.

    Raises:
        InputError: they carry what has no batched form: buffers, branches or an integrator's history.
    """
    if any(state.buffers or state.branches or state.history for state in states):
        raise InputError(
            "members that advance together carry w, slots and hyperparameters only; got buffers, branches or history. "
            "Use --ensemble off."
        )
    first = states[0]
    return State(
        torch.stack([state.w for state in states]),
        torch.stack([state.t for state in states]),
        {name: torch.stack([state.hyper[name] for state in states]) for name in first.hyper},
        {name: torch.stack([state.slots[name] for state in states]) for name in first.slots},
    )


def join(state: State, more: State) -> State:
    """Return the state of the members of both, those of `more` last."""
    return State(
        torch.cat([state.w, more.w]),
        torch.cat([state.t, more.t]),
        {name: torch.cat([x, more.hyper[name]]) for name, x in state.hyper.items()},
        {name: torch.cat([x, more.slots[name]]) for name, x in state.slots.items()},
    )


def one(state: State, i: int) -> State:
    """Return a copy of member i's state, on storage of its own: a checkpoint saves whole storages."""
    return _each(state, lambda x: x[i].clone())


def some(state: State, index: Sequence[int]) -> State:
    """Return the state of some members."""
    return _each(state, lambda x: x[list(index)])


def _each(state: State, act: Callable[[Tensor], Tensor]) -> State:
    return State(
        act(state.w),
        act(state.t),
        {name: act(x) for name, x in state.hyper.items()},
        {name: act(x) for name, x in state.slots.items()},
    )
