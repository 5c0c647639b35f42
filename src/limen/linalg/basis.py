"""A growing orthonormal basis with the products of an operator on it, and Rayleigh-Ritz within it.

Legend: n dimension, j vectors in the basis. Vectors are rows, so that a basis is contiguous vector by vector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.types import LinearOperator

KEPT = 0.7
"""A projection that leaves this share of a vector need not be repeated: what rounding leaves within the basis is
then small against the vector (Daniel, Gragg, Kaufman & Stewart, Math. Comp. 30, 1976). Each reads the basis twice."""


@dataclass(frozen=True)
class Ritz:
    """The leading Ritz pairs of a basis.

    Attributes:
        values: the m largest, descending (m,), float64 on the CPU.
        vectors: orthonormal rows (m, n).
        residuals: A y - θ y as rows (m, n).
        all_values: every Ritz value, descending (j,).
        coordinates: every Ritz vector in the basis, as rows (j, j).
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    all_values: Tensor
    coordinates: Tensor


class Basis:
    """Orthonormal rows V (j, n), their products AV, and the projected matrix V A Vᵀ.

    Attributes:
        room: how many vectors it can hold.
        size: how many it holds, j.
        products: operator-vector products spent so far.
        V: the vectors; rows beyond `size` are not set.
        AV: their products, likewise.
    """

    def __init__(self, A: LinearOperator, room: int) -> None:
        self.A, self.room, self.size, self.products = A, room, 0, 0
        self.V = torch.empty(room, A.n, dtype=A.dtype, device=A.device)
        self.AV = torch.empty_like(self.V)
        self._T = torch.zeros(room, room, dtype=torch.float64)

    def extend(self, rows: Tensor) -> bool:
        """Add the directions of `rows` that are new, with their products; say whether there were any."""
        first = self.size
        for row in rows:
            if self.size < self.room:
                self._orthonormalise(row)
        new = slice(first, self.size)
        if self.size == first:
            return False
        self.AV[new] = self.A.matmat(self.V[new])
        self.products += self.size - first
        cross = (self.V[: self.size] @ self.AV[new].T).double().cpu()
        self._T[: self.size, new] = cross
        self._T[new, : self.size] = cross.T
        return True

    def _orthonormalise(self, row: Tensor) -> None:
        before = float(row.norm())
        if not 0 < before < math.inf:
            return
        v, length = row / before, 1.0
        V = self.V[: self.size]
        for _ in range(3):
            v = v - (V @ v) @ V
            was, length = length, float(v.norm())
            if length <= 100 * torch.finfo(v.dtype).eps:
                return  # nothing but rounding is new
            if length > KEPT * was:
                break
        self.V[self.size] = v / length
        self.size += 1

    def rayleigh_ritz(self, m: int) -> Ritz | None:
        """Return the m leading Ritz pairs (fewer if the basis is smaller); None if products are not finite."""
        T = self._T[: self.size, : self.size]
        if self.size == 0 or not bool(T.isfinite().all()):
            return None
        values, S = torch.linalg.eigh((T + T.T) / 2)
        values, S = values.flip(0), S.flip(1)
        coordinates = S.T.to(self.A.device, self.A.dtype)
        vectors = coordinates[:m] @ self.V[: self.size]
        residuals = coordinates[:m] @ self.AV[: self.size]
        residuals -= values[:m, None].to(residuals) * vectors
        return Ritz(values[:m], vectors, residuals, values, coordinates)

    def restart(self, ritz: Ritz, keep: int) -> None:
        """Shrink to the `keep` leading Ritz vectors, without a product."""
        size = self.size
        self.V[:keep] = ritz.coordinates[:keep] @ self.V[:size]
        self.AV[:keep] = ritz.coordinates[:keep] @ self.AV[:size]
        self.size = keep
        self._T[:keep, :keep] = (self.V[:keep] @ self.AV[:keep].T).double().cpu()
