"""A check from a fresh random vector: has a warm-started solver missed a direction?

A solver that starts from the vectors of its last call cannot see a direction at right angles to all of them: its
residuals vanish there. Lanczos from one random vector sees every direction, and two facts make a verdict of it:

* Cauchy interlacing: the i-th Ritz value of *any* subspace is at most the i-th eigenvalue. A Ritz value of the
  audit above the tracked one therefore proves a miss.
* Kuczyński & Woźniakowski, SIAM J. Matrix Anal. 13 (1992), Theorem 4.1: after s steps from a vector uniform on the
  sphere in n dimensions, P(λ₁ - θ₁ > ε (λ₁ - λ_n)) ≤ 1.648 √n e^{-√ε (2s-1)}. Silence is thus worth something too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.errors import InputError
from limen.linalg.basis import Basis
from limen.linalg.operators import as_operator
from limen.types import LinearOperator


@dataclass(frozen=True)
class Audit:
    """What Lanczos saw from one random vector.

    Attributes:
        values: its leading Ritz values, descending, float64 on the CPU; lower bounds of the eigenvalues, in order.
        vectors: the Ritz vectors as orthonormal rows.
        steps: length of the Krylov sequence.
        products: products spent.
        spread: largest minus smallest Ritz value, an estimate (from below) of λ₁ - λ_n.
        miss: the ε of the theorem at the given confidence; λ₁ lies at most ε (λ₁ - λ_n) above `values[0]`.
        confidence: probability of that statement, over the draw of the vector.
    """

    values: Tensor
    vectors: Tensor
    steps: int
    products: int
    spread: float
    miss: float
    confidence: float


def lanczos_audit(
    A: LinearOperator | Tensor,
    k: int,
    *,
    steps: int = 30,
    generator: torch.Generator | None = None,
    confidence: float = 0.99,
) -> Audit:
    """Run `steps` Lanczos steps from one random vector, with full reorthogonalisation.

    Args:
        A: symmetric operator or dense matrix (n, n).
        k: how many Ritz pairs to return (fewer if the sequence ends early).
        steps: length of the sequence; products spent.
        generator: for the vector (CPU); seeded with 0 if None.
        confidence: of the bound in `Audit.miss`.

    Raises:
        InputError: `steps` is less than k or less than 2, or `confidence` is no probability.
    """
    A = as_operator(A)
    if steps < max(k, 2):
        raise InputError(f"an audit of {k} eigenvalues needs at least {max(k, 2)} steps, got {steps}.")
    generator = generator or torch.Generator().manual_seed(0)
    basis = Basis(A, min(steps, A.n))
    row = torch.randn(1, A.n, generator=generator, dtype=torch.float64).to(A.device, A.dtype)
    # the last product row is the next direction: it leaves the space as long as the space is not invariant
    while basis.size < basis.room and basis.extend(row):
        row = basis.AV[basis.size - 1 : basis.size]
    pairs = basis.rayleigh_ritz(min(k, basis.size))
    miss = miss_bound(A.n, steps, confidence)
    if pairs is None:
        nan = torch.full((k,), math.nan, dtype=torch.float64)
        return Audit(nan, basis.V[:0], steps, basis.products, math.nan, miss, confidence)
    spread = float(pairs.all_values[0] - pairs.all_values[-1])
    if basis.size == A.n:
        miss = 0.0  # the whole space: nothing is left to miss
    return Audit(pairs.values, pairs.vectors, basis.size, basis.products, spread, miss, confidence)


def miss_bound(n: int, steps: int, confidence: float = 0.99) -> float:
    """Return the ε for which 1.648 √n e^{-√ε (2 steps - 1)} = 1 - confidence, at most 1.

    >>> round(miss_bound(10_000_000, 30), 3)  # 30 steps say 5 % at probability .99 for ten million parameters
    0.05
    >>> round(miss_bound(10_000_000, 16), 2)
    0.18
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, got {confidence}.")
    if steps < 1:
        return 1.0
    exponent = math.log(1.648 * math.sqrt(n) / (1 - confidence))
    return min(1.0, (max(0.0, exponent) / (2 * steps - 1)) ** 2)
