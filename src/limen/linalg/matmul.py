"""The fastest float32 matrix product that is still float32-accurate on this machine."""

from __future__ import annotations

import os

import torch

MODES = ("medium", "high", "highest")
"""PyTorch's names, in the order they are tried."""


def gemm_error(device: torch.device | str = "cpu", size: int = 384) -> float:
    """Return the relative error of one float32 product (size, size) against float64, in the Frobenius norm."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    found = (a.to(device) @ b.to(device)).cpu().double()
    return float((found - exact).norm() / exact.norm())


def choose_matmul_mode(device: torch.device | str = "cpu") -> str:
    """Set the first mode whose products are float32-accurate, and return its name.

    "medium" selects a faster kernel on some CPUs without losing a digit, and bfloat16 or TF32 on other hardware;
    one product against float64 tells which. The name is stored with a run, so that a resumed run uses the same.
    """
    for mode in MODES:
        set_matmul_mode(mode)
        if gemm_error(device) < 2e-6:
            return mode
    return MODES[-1]


def set_matmul_mode(mode: str) -> str:
    """Set a mode, perhaps one that an earlier process chose, and return its name.

    Convolutions on CUDA are set to true float32 as well (cuDNN would use TF32 by default).
    """
    torch.set_float32_matmul_precision(mode)
    torch.backends.cudnn.allow_tf32 = False
    return mode


def use_deterministic_kernels() -> None:
    """Ask for kernels that give the same bits every time, where a device has the choice; warn where it has none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
