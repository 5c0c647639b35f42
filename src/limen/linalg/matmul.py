"""The fastest float32 matrix product that is still float32-accurate on this machine."""

from __future__ import annotations

import functools
import os
import time

import torch

FASTER = "medium"
"""PyTorch's name for products by another kernel, which may be faster, and less accurate, than "highest"."""

WORTH = 0.9
"""A mode is taken if it needs less than this share of the time."""


def gemm_error(device: torch.device | str = "cpu", size: int = 384) -> float:
    """Return the relative error of one float32 product (size, size) against float64, in the Frobenius norm."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    found = (a.to(device) @ b.to(device)).cpu().double()
    return float((found - exact).norm() / exact.norm())


def choose_matmul_mode(device: torch.device | str = "cpu") -> str:
    """Set the fastest mode whose products are float32-accurate, and return its name.

    "medium" selects another kernel, faster on some CPUs without losing a digit, slower on others, and bfloat16 or
    TF32 on other hardware: one product against float64 and a few timed ones tell. The modes differ in rounding, so
    the name is stored with a run, and a resumed run uses the same.
    """
    return set_matmul_mode(_fastest(str(device)))


@functools.cache
def _fastest(device: str) -> str:
    set_matmul_mode("highest")
    least = WORTH * gemm_seconds(device)
    set_matmul_mode(FASTER)
    return FASTER if gemm_error(device) < 2e-6 and gemm_seconds(device) < least else "highest"


def gemm_seconds(device: torch.device | str = "cpu", repeats: int = 3) -> float:
    """Return the least time of the three products of a linear layer: forward, and backward in input and weight."""
    generator = torch.Generator().manual_seed(0)
    x, weight, grad = (
        torch.randn(shape, generator=generator).to(device)
        for shape in ((1000, 3072), (200, 3072), (1000, 200))
    )
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        for a, b in ((x, weight.T), (grad, weight), (grad.T, x)):
            product = a @ b
        product[0, 0].item()  # a GPU answers before it has finished
        times.append(time.perf_counter() - begun)
    return min(times)


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
    # the same switch as use_deterministic_algorithms, which imports a compiler: 1.5 s
    torch.set_deterministic_debug_mode("warn")
