"""How many neurons of a layer are left: vanished, identical and independent ones, and the effective rank.

Legend: n neurons, d numbers each. A neuron is the vector of all that belongs to it: incoming weights, bias, outgoing
weights, and the scale and shift of its norm layer.

Source: Chen, Kunin, Yamamura and Ganguli, Stochastic Collapse, NeurIPS 2023, Section 6 and its notebooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limen.collapse.gram import Parts, exact, gram, row_blocks, squares, working
from limen.collapse.rank import effective_rank, rank_of_gram
from limen.errors import InputError

VANISHED = 0.1
"""A neuron has vanished if its norm is below this fraction of the largest norm in its layer."""

IDENTICAL = 0.1
"""Two neurons a, b are identical if 2‖a−b‖² / (‖a‖²+‖b‖²) is below this."""

Grouping = Literal["linkage", "greedy"]
GROUPINGS: tuple[Grouping, ...] = ("linkage", "greedy")

Flags = NDArray[np.bool_]
Labels = NDArray[np.int64]
Block = tuple[int, Flags]
"""Which neurons are identical to those of some consecutive rows: the first row, and flags (b, n)."""


@dataclass(frozen=True)
class Counts:
    """What is left of n neurons; vanished + identical + independent = size.

    Attributes:
        size: n.
        vanished: neurons whose norm is below 0.1 of the largest; all of them where every vector is zero.
        identical: those of the others that another one of their cluster already stands for.
        independent: clusters among the neurons that have not vanished.
        effective_rank: exp of the entropy of the normalised singular values of all n vectors; 0 if all are zero.
        clusters: for each neuron the number of its cluster, counted from 0 in order of their first members; -1 for
            one that has vanished.
    """

    size: int
    vanished: int
    identical: int
    independent: int
    effective_rank: float
    clusters: Labels

    @property
    def fraction(self) -> float:
        """Independent neurons as a fraction of all."""
        return self.independent / self.size


def count(*parts: Tensor, grouping: Grouping = "linkage") -> Counts:
    """Count the neurons whose vectors are the rows of V (n, d), given whole or as parts (n, d_k) side by side.

    A neuron has *vanished* if its norm is below 0.1 of the largest. Two others a, b are *identical* if
    2‖a−b‖²/(‖a‖²+‖b‖²) < 0.1. *Independent* neurons are the clusters of this relation, which is not transitive:

    - "linkage": single linkage, the connected components. It does not depend on the order of the neurons.
    - "greedy": as published, in the order of the index: the first neuron not yet in a cluster founds one, and takes in
      every later one that is identical to it and in none.

    Every decision is that of float64: norms are summed in it, and 2‖a−b‖²/(‖a‖²+‖b‖²) = 2 − 4 a·b/(‖a‖²+‖b‖²), which
    does not cancel near 0.1, is computed again for the pairs that float32 products leave in doubt. Memory is linear in
    the numbers of V; time is half of a matrix product and the eigenvalues of the smaller Gram matrix.

    Raises:
        InputError: parts are no (n, d_k) with n, d > 0, are not finite, or the grouping is unknown.

    Examples:
        >>> V = torch.tensor([[1.0, 0.0], [1.1, 0.0], [0.0, 2.0], [0.0, 0.0]])
        >>> found = count(V)
        >>> found.vanished, found.identical, found.independent, found.clusters.tolist()
        (1, 1, 2, [0, 0, 1, -1])
    """
    _check(parts, grouping)
    parts = tuple(part.detach().to(working(parts)) for part in parts)
    n, d = len(parts[0]), sum(part.shape[1] for part in parts)
    lengths = squares(parts)
    if not bool(lengths.isfinite().all()):
        bad = int((~lengths.isfinite()).sum())
        raise InputError(
            f"{bad} of {n} neurons are not finite: has the run diverged? Take an earlier checkpoint."
        )
    norms = lengths.sqrt().numpy()
    alive: Flags = (norms >= VANISHED * norms.max()) & (norms > 0)
    if n <= d:
        G = gram(parts)
        blocks = _identical([(0, G)], parts, lengths, alive, d * torch.finfo(G.dtype).eps)
        rank = rank_of_gram(G, parts)
    else:
        blocks = _identical(row_blocks(parts), parts, lengths, alive, 0.0)
        rank = effective_rank(*parts)
    clusters = _number(_linkage(blocks, n) if grouping == "linkage" else _greedy(blocks, alive), alive)
    independent = int(clusters.max(initial=-1)) + 1
    left = int(alive.sum())
    return Counts(n, n - left, left - independent, independent, rank, clusters)


def _check(parts: Parts, grouping: str) -> None:
    shapes = [tuple(part.shape) for part in parts]
    fits = all(len(shape) == 2 and shape[0] == shapes[0][0] > 0 for shape in shapes)
    if not fits or not sum(part.numel() for part in parts):
        raise InputError(f"expected vectors (neurons, numbers of each), and some; got {shapes or 'nothing'}.")
    if grouping not in GROUPINGS:
        raise InputError(f"grouping: expected one of {', '.join(GROUPINGS)}, got {grouping!r}.")


def _identical(
    products: Iterable[tuple[int, Tensor]], parts: Parts, lengths: Tensor, alive: Flags, error: float
) -> Iterator[Block]:
    """Yield which living neurons are identical, by blocks of rows.

    That is a·b > .475 (‖a‖²+‖b‖²); `error` bounds the rounding of a·b as a fraction of ‖a‖‖b‖ ≤ (‖a‖²+‖b‖²)/2.
    """
    here = lengths.to(parts[0].device)
    bound = (2 - IDENTICAL) / 4
    for first, block in products:
        rows = slice(first, first + len(block))
        share = block / (here[rows, None] + here).to(block.dtype)
        near: Flags = (share > bound).cpu().numpy()
        if error:
            doubt = ((share - bound).abs() <= error).nonzero()
            a, b = doubt[:, 0] + first, doubt[:, 1]
            sure = exact(parts, a, b) > bound * (here[a] + here[b])
            near[doubt[:, 0].cpu().numpy(), b.cpu().numpy()] = sure.cpu().numpy()
        near &= alive[rows, None] & alive
        yield first, near


def _linkage(blocks: Iterable[Block], n: int) -> Labels:
    """Return for each neuron the least index of its connected component."""
    least = np.arange(n)
    for first, block in blocks:
        # a row whose only neighbour is itself joins nothing
        for row in np.flatnonzero(block.sum(axis=1) > 1):
            met = np.zeros(n, dtype=bool)
            met[least[block[row]]] = True
            met[least[first + row]] = True
            if met.sum() > 1:
                least[met[least]] = np.argmax(met)
    return least


def _greedy(blocks: Iterable[Block], alive: Flags) -> Labels:
    """Return for each neuron the founder of its cluster."""
    founder = np.where(alive, -1, np.arange(len(alive)))
    for first, block in blocks:
        for row, near in enumerate(block, start=first):
            if founder[row] < 0:
                founder[near & (founder < 0)] = row
                founder[row] = row
    return founder


def _number(least: Labels, alive: Flags) -> Labels:
    """Return clusters numbered from 0 in order of their first members, -1 for what has vanished."""
    clusters = np.full(len(least), -1, dtype=np.int64)
    clusters[alive] = np.unique(least[alive], return_inverse=True)[1].reshape(-1)
    return clusters
