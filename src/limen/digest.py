"""What identifies tensors: the data and the weights that a run began with."""

from __future__ import annotations

import hashlib

from torch import Tensor


def digest(*tensors: Tensor) -> str:
    """Return the SHA-256 over shapes, types and bytes, in hexadecimal digits."""
    sha = hashlib.sha256()
    for x in tensors:
        sha.update(f"{tuple(x.shape)} {x.dtype}".encode())
        sha.update(x.detach().cpu().contiguous().numpy().reshape(-1).data)  # without a copy
    return sha.hexdigest()
