"""How large an ensemble may be, and where it pays: a table that was measured once (benchmarks/README.md)."""

from __future__ import annotations

from dataclasses import dataclass

from limen.run import Experiment

MOST = 64
"""Members of an ensemble: more gain nothing, and each holds a lock and two open files."""

MEMORY = 1 << 30
"""Bytes that data and activations of all members may take."""


@dataclass(frozen=True)
class Size:
    """What the rule looks at.

    Attributes:
        p: parameters of a member.
        n: examples.
        device: "cpu" or "cuda".
        kernel: "mlp" or "vmap" (see `objectives.batched`).
        bytes: of data and activations, of one member.
    """

    p: int
    n: int
    device: str
    kernel: str
    bytes: int


FEWEST = {("cpu", "mlp"): 8, ("cpu", "vmap"): 16}
"""By device and kernel, from how many members on it was measured to pay; without an entry it was not."""

MOST_PARAMETERS, MOST_WORK = 5_000, 100_000
"""p and n p up to which it was measured to pay, 2.4 times at the least; at n p of a million nothing is gained."""


def measure(experiment: Experiment) -> Size | None:
    """Return the size of a member; None if such members cannot advance together."""
    from limen.objectives import Supervised
    from limen.objectives.batched import Batched, unfit

    objective = experiment.objective
    if not isinstance(objective, Supervised) or unfit(objective):
        return None
    together = Batched(objective)
    return Size(objective.dim, objective.n, objective.device.type, together.kernel, together.member_bytes)


def most(size: Size) -> int:
    """Return how many members an ensemble may have."""
    return max(1, min(MOST, MEMORY // max(1, size.bytes)))


def pays(size: Size, members: int) -> bool:
    """Whether the table has so many members faster together than one after another."""
    fewest = FEWEST.get((size.device, size.kernel))
    small = size.p <= MOST_PARAMETERS and size.n * size.p <= MOST_WORK
    return small and fewest is not None and members >= fewest
