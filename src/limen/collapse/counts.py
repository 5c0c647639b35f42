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

from limen.collapse.gram import gram, rows_of_gram
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


def count(V: Tensor, grouping: Grouping = "linkage") -> Counts:
    """Count the neurons whose vectors are the rows of `V` (n, d).

    A neuron has *vanished* if its norm is below 0.1 of the largest. Two others a, b are *identical* if
    2‖a−b‖²/(‖a‖²+‖b‖²) < 0.1. *Independent* neurons are the clusters of this relation, which is not transitive:

    - "linkage": single linkage, the connected components. It does not depend on the order of the neurons.
    - "greedy": as published, in the order of the index: the first neuron not yet in a cluster founds one, and takes in
      every later one that is identical to it and in none.

    All is computed in float64 from inner products: 2‖a−b‖²/(‖a‖²+‖b‖²) = 2 − 4 a·b/(‖a‖²+‖b‖²), whose rounding is
    below d·2e-16, far from 0.1. Memory is linear in the numbers of `V`, time is that of half a matrix product
    and of the eigenvalues of the smaller Gram matrix.

    Raises:
        InputError: `V` is no (n, d) with n, d > 0, is not finite, or the grouping is unknown.

    Examples:
        >>> V = torch.tensor([[1.0, 0.0], [1.1, 0.0], [0.0, 2.0], [0.0, 0.0]])
        >>> found = count(V)
        >>> found.vanished, found.identical, found.independent, found.clusters.tolist()
        (1, 1, 2, [0, 0, 1, -1])
    """
    if V.ndim != 2 or not V.numel():
        raise InputError(
            f"expected vectors (neurons, numbers of each), and some; got shape {tuple(V.shape)}."
        )
    if grouping not in GROUPINGS:
        raise InputError(f"grouping: expected one of {', '.join(GROUPINGS)}, got {grouping!r}.")
    n, d = V.shape
    V = V.detach()
    small = gram(V if n <= d else V.t())
    G = small if n <= d else None
    squares = (small.diagonal() if n <= d else V.to(torch.float64).square().sum(1)).cpu()
    if not bool(squares.isfinite().all()):
        bad = int((~squares.isfinite()).sum())
        raise InputError(
            f"{bad} of {n} neurons are not finite: has the run diverged? Take an earlier checkpoint."
        )
    norms = squares.sqrt()
    alive = ((norms >= VANISHED * norms.max()) & (norms > 0)).numpy()
    blocks = _identical(V, G, squares, alive)
    clusters = _number(_linkage(blocks, n) if grouping == "linkage" else _greedy(blocks, alive), alive)
    independent = int(clusters.max(initial=-1)) + 1
    left = int(alive.sum())
    return Counts(n, n - left, left - independent, independent, _rank(small), clusters)


def effective_rank(V: Tensor) -> float:
    """Return exp(−Σ pᵢ log pᵢ), pᵢ = σᵢ/Σσ, of the singular values σ of `V` (n, d); 0 for the zero matrix.

    The σᵢ² are eigenvalues of the smaller Gram matrix in float64; those that its rounding cannot tell from zero count
    as zero.
    Source: Roy and Vetterli, The Effective Rank, EUSIPCO 2007.

    >>> round(effective_rank(torch.eye(5)), 12)
    5.0
    """
    return _rank(gram(V.detach() if V.shape[0] <= V.shape[1] else V.detach().t()))


def _rank(G: Tensor) -> float:
    squares = torch.linalg.eigvalsh(G).flip(0)
    floor = len(G) * torch.finfo(torch.float64).eps * squares[0]
    sigma = squares[(squares > floor) & (squares > 0)].sqrt()
    if not len(sigma):
        return 0.0
    p = sigma / sigma.sum()
    return float(torch.exp(-(p * p.log()).sum()))


def _identical(V: Tensor, G: Tensor | None, squares: Tensor, alive: Flags) -> Iterator[Block]:
    """Yield which living neurons are identical, by blocks of rows: 2 − 4 a·b/(‖a‖²+‖b‖²) < 0.1."""
    here = squares.to(V.device)
    least = (2 - IDENTICAL) / 4
    for first, block in rows_of_gram(V, G):
        rows = slice(first, first + len(block))
        near: Flags = (block > least * (here[rows, None] + here)).cpu().numpy()
        near &= alive[rows, None] & alive
        yield first, near


def _linkage(blocks: Iterable[Block], n: int) -> Labels:
    """Return for each neuron the least index of its connected component."""
    least = np.arange(n)
    for _, block in blocks:
        # a row whose only neighbour is itself joins nothing
        for row in np.flatnonzero(block.sum(axis=1) > 1):
            met = np.zeros(n, dtype=bool)
            met[least[block[row]]] = True
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
