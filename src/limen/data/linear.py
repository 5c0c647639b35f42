"""Whitened inputs and a random linear map, a regression: linear-<n>-<d>."""

from __future__ import annotations

import math

import torch
from pydantic import PositiveInt

from limen.data import Dataset
from limen.errors import InputError

PATTERN = r"linear-(?P<n>[1-9]\d*)-(?P<d>[1-9]\d*)"
NAMES = ("linear-50-50",)


def make(*, n: PositiveInt = 50, d: PositiveInt = 50) -> Dataset:
    """Return X (n, d) with XᵀX = n·I and Y = X Aᵀ (n, d) for a standard normal A (d, d).

    Draws: `torch.manual_seed(0)`, then G (n, d) and A in float32; X = √n·Q with G = QR. Independent of the
    run's seed. The rest is float64. The test set is the training set.
    Source: Cohen et al., Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability,
    ICLR 2021.

    Args:
        n: number of examples, at least d.
        d: number of inputs, and of outputs.

    Raises:
        InputError: n < d, where no whitened inputs exist.
    """
    if n < d:
        raise InputError(f"linear-n-d: expected n >= d, got n={n}, d={d}. Choose for example linear-{d}-{d}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        G = torch.randn(n, d, dtype=torch.float32).double()
        A = torch.randn(d, d, dtype=torch.float32).double()
    X = math.sqrt(n) * torch.linalg.qr(G).Q
    Y = X @ A.T
    return Dataset(X, Y, X, Y)
