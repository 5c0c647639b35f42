"""The effective rank of a layer's neurons."""

from __future__ import annotations

import torch
from torch import Tensor

from limen.collapse.gram import Parts, gram

RESOLVED = 500
"""Times the rounding of the largest eigenvalue of V Vᵀ: smaller ones are computed again in float64."""


def effective_rank(*parts: Tensor) -> float:
    """Return exp(−Σ pᵢ log pᵢ), pᵢ = σᵢ/Σσ, of the singular values σ of V (n, d), its columns in one or more parts.

    The σᵢ² are the eigenvalues of the smaller Gram matrix, in float32 for float32 weights unless some are as small as
    its rounding; then in float64, where those that rounding cannot tell from zero count as zero. 0 for the zero matrix.
    Relative error: below 1e-3.
    Source: Roy and Vetterli, The Effective Rank, EUSIPCO 2007.

    >>> round(effective_rank(torch.eye(5)), 6)
    5.0
    """
    n, d = len(parts[0]), sum(part.shape[1] for part in parts)
    if n <= d:
        return rank_of_gram(gram(parts), parts)
    across = torch.cat([part.t() for part in parts])
    return rank_of_gram(gram([across], torch.float64), [across])


def rank_of_gram(G: Tensor, parts: Parts) -> float:
    """Return the effective rank from G = V Vᵀ in float32 or float64, again in float64 where float32 is too coarse."""
    eigenvalues = torch.linalg.eigvalsh(G)
    rounding = torch.finfo(G.dtype).eps * eigenvalues[-1]
    if G.dtype == torch.float32 and eigenvalues[0] < RESOLVED * rounding:
        return rank_of_gram(gram(parts, torch.float64), parts)
    kept = eigenvalues[eigenvalues > len(G) * rounding] if G.dtype == torch.float64 else eigenvalues
    sigma = kept[kept > 0].to(torch.float64).sqrt()
    if not len(sigma):
        return 0.0
    p = sigma / sigma.sum()
    return float(torch.exp(-(p * p.log()).sum()))
