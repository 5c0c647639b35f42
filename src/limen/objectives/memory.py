"""How much memory there is, and how much of it an autograd graph takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

FALLBACK = 2 << 30
"""Bytes taken to be free where the system does not say."""


def free_memory(device: torch.device) -> int:
    """Return the bytes free on `device` now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return FALLBACK


def graph_bytes(build: Callable[[], object], resident: Iterable[Tensor]) -> int:
    """Return the bytes that the graphs made by `build` save, beyond the storages of `resident` tensors."""
    known = {x.untyped_storage().data_ptr() for x in resident}
    seen: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in known:
            seen[storage.data_ptr()] = storage.nbytes()
        return x.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        made = build()
    del made
    return sum(seen.values())
