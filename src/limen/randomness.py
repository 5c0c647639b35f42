"""Randomness as a function of (seed, stream, step): no shared state, so a resumed run draws the same numbers."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, stream: str, step: int = 0) -> torch.Generator:
    """Return a CPU generator for one named stream at one step.

    Args:
        seed: of the run.
        stream: what the numbers are for ("eigs", "labels", …); streams are independent.
        step: of the run.
    """
    digest = hashlib.sha256(f"{seed}/{stream}/{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
