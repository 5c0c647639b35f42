"""Atoms: the places of a network that one hidden unit may own, and which of them belong together.

Each dimension of each parameter has one atom a position. An operation that makes two places move together unites
their atoms (union–find); a *unit* is a class of united atoms. Atom 0 stands for all that no symmetry moves: input
features, classes, positions.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"
from __future__ import annotations

import torch
from torch import Tensor

FIXED = 0
FREE = -1
"""Label of a place that looks the same from every unit, as a constant zero does."""

KEY = 0x9E3779B97F4A7C15 - (1 << 64)  # odd, so that products spread over all of 64 bits


def mix(x: Tensor) -> Tensor:
    """Spread int64 numbers over 64 bits (wrapping), so that sums of them rarely coincide."""
    x = (x + 1) * KEY
    x = (x ^ (x >> 29)) * KEY
    return x ^ (x >> 32)


class Atoms:
    """Union–find over atoms, and what is known of each.

    Attributes:
        root: the smallest atom of each atom's class, (atoms,).
        colours: what tells atoms apart that are owned alike: pairs (atoms, colour).
        members: pairs (block, atom): permuting blocks carries their members along.
        weights: (atoms, colours, reason): which fixed numbers they meet.
        coupled: atoms over which some operation runs that is not a sum of what outgoing weights multiply.
        heads: blocks that come of a product of two activations, as in attention.
        sign: (atoms, reason, whether blocks inherit it): why they do not stay at zero.
        kinks: (atoms, reason, whether blocks inherit it): why the loss has no Hessian where they are zero.
        permutation: (atoms, reason): why they cannot be exchanged.
        dropped: (atoms, reason): why they are not treated alike in training.
    """

    def __init__(self) -> None:
        self.root = torch.zeros(1, dtype=torch.int64)
        self.colours: list[tuple[Tensor, Tensor]] = []
        self.members: list[tuple[Tensor, Tensor]] = []
        self.weights: list[tuple[Tensor, Tensor, str]] = []
        self.coupled: list[Tensor] = []
        self.heads: list[Tensor] = []
        self.sign: list[tuple[Tensor, str, bool]] = []
        self.kinks: list[tuple[Tensor, str, bool]] = []
        self.permutation: list[tuple[Tensor, str]] = []
        self.dropped: list[tuple[Tensor, str]] = []

    def fresh(self, count: int) -> Tensor:
        """Return `count` new atoms."""
        new = torch.arange(len(self.root), len(self.root) + count)
        self.root = torch.cat([self.root, new])
        return new

    def find(self, labels: Tensor) -> Tensor:
        """Return the classes of `labels`; `FREE` stays as it is."""
        return torch.where(labels < 0, labels, self.root[labels.clamp_min(0)])

    def union(self, a: Tensor, b: Tensor) -> None:
        """Unite atoms elementwise, where neither is `FREE`."""
        seen = (a >= 0) & (b >= 0)
        a, b = a[seen], b[seen]
        while True:
            here, there = self.root[a], self.root[b]
            apart = here != there
            if not apart.any():
                return
            low, high = torch.minimum(here, there)[apart], torch.maximum(here, there)[apart]
            self.root = self.root.scatter_reduce(0, high, low, "amin")
            self._shorten()

    def _shorten(self) -> None:
        while not torch.equal(shorter := self.root[self.root], self.root):
            self.root = shorter

    def fix(self, labels: Tensor) -> None:
        """Take the units of `labels` from the hidden ones."""
        labels = labels.unique()
        self.union(labels, torch.full_like(labels, FIXED))

    def colour(self, labels: Tensor, colours: Tensor) -> None:
        """Tell apart the units of `labels` by `colours` (int64, like `labels`)."""
        seen = labels > 0
        self.colours.append((labels[seen], colours[seen]))

    def join(self, blocks: Tensor, labels: Tensor) -> None:
        """Make `labels` members of `blocks`, elementwise."""
        seen = (labels > 0) & (blocks > 0)
        self.members.append((blocks[seen], labels[seen]))

    def weigh(self, labels: Tensor, colours: Tensor, why: str) -> None:
        """Note which fixed numbers the units of `labels` meet: those of different `colours` are not exchangeable."""
        seen = labels > 0
        self.weights.append((labels[seen], colours[seen], why))

    def couple(self, labels: Tensor) -> None:
        """Note that an operation runs over the units of `labels`."""
        self.coupled.append(labels[labels > 0].unique())

    def break_sign(self, labels: Tensor, why: str, *, blocks: bool = True) -> None:
        """Say why the units of `labels` (and of the blocks that they are in) do not stay at zero."""
        self.sign.append((labels[labels > 0].unique(), why, blocks))

    def bend(self, labels: Tensor, why: str, *, blocks: bool = True) -> None:
        """Say why the loss is not smooth where the units of `labels` (and of their blocks) are zero."""
        self.kinks.append((labels[labels > 0].unique(), why, blocks))

    def break_permutation(self, labels: Tensor, why: str) -> None:
        """Say why the units of `labels` are not exchangeable."""
        self.permutation.append((labels[labels > 0].unique(), why))

    def drop(self, labels: Tensor, why: str) -> None:
        """Say what draws different numbers for the units of `labels` in training."""
        self.dropped.append((labels[labels > 0].unique(), why))
