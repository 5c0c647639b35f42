"""Which specs advance together."""

from __future__ import annotations

import json
from collections.abc import Sequence

from limen.config import GDSpec, Spec, build
from limen.ensemble import rule
from limen.errors import InputError, LimenError, nearest

MODES = ("on", "auto")

NUMBERS = ("lr", "beta", "seed")
"""What may differ between members."""

RULES = ("gd", "polyak", "nesterov")
"""Those whose step takes a leading batch."""


def groups(specs: Sequence[Spec], mode: str) -> list[list[int]]:
    """Return the indices of `specs` in groups, each index once; those in a group of one run alone.

    Members of a group differ in lr, beta and seed alone, follow a descent rule of ours, and train a network of ours in
    which examples do not influence each other. Such a group is as large as memory allows (`rule.most`), and with "auto"
    it is one only where `rule.pays`. One network of each kind is built to know its size.

    Args:
        specs: any.
        mode: "on", whatever may, or "auto", where it pays.

    Raises:
        InputError: the mode is unknown.
    """
    if mode not in MODES:
        raise InputError(f"unknown mode {mode!r} of ensembles.{nearest(mode, MODES)} There are: on, auto.")
    kinds: dict[str, list[int]] = {}
    for i, spec in enumerate(specs):
        kinds.setdefault(kind_of(spec) if may(spec) else f"alone {i}", []).append(i)
    return [part for kind in kinds.values() for part in _parts(specs[kind[0]], kind, mode)]


def may(spec: Spec) -> bool:
    """Whether runs of this kind may advance together, as far as words tell."""
    return type(spec) is GDSpec and spec.opt in RULES and not spec.track_flow


def kind_of(spec: Spec) -> str:
    """Return what is equal between members: the spec without its numbers."""
    return json.dumps(
        {k: v for k, v in spec.to_dict().items() if k not in NUMBERS}, sort_keys=True, default=str
    )


def _parts(spec: Spec, kind: Sequence[int], mode: str) -> list[list[int]]:
    alone = [[i] for i in kind]
    if len(kind) == 1:
        return alone
    try:
        size = rule.measure(build(spec).experiment)
    except LimenError:
        return alone  # each says itself why it cannot run
    if size is None:
        return alone
    count = -(-len(kind) // rule.most(size))
    parts = [list(kind[first::count]) for first in range(count)]  # of sizes that differ by one at the most
    return [
        piece
        for part in parts
        for piece in ([part] if mode == "on" or rule.pays(size, len(part)) else [[i] for i in part])
    ]
