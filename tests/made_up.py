"""Write small files in the formats of MNIST and WikiText-2, with made-up contents."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

COUNTS = {"train": 60, "t10k": 30}


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in idx format."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def mnist(folder: Path, seed: int = 0, packed: bool = True) -> Path:
    """Write the four files to `folder`/raw."""
    draw = np.random.default_rng(seed)
    (folder / "raw").mkdir(parents=True)
    for part, n in COUNTS.items():
        arrays = {
            "images-idx3": draw.integers(0, 256, (n, 28, 28), dtype=np.uint8),
            "labels-idx1": draw.permutation(np.arange(n) % 10).astype(np.uint8),
        }
        for kind, array in arrays.items():
            path = folder / "raw" / f"{part}-{kind}-ubyte{'.gz' * packed}"
            path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return folder


def wikitext(folder: Path) -> Path:
    """Write a training and a test text of small words to `folder`."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    words = np.array(["<unk>", "the", "a", "cat", "saw", "dog", ",", "."])
    for part, n in (("train", 40), ("test", 12)):
        lines = [" " + " ".join(draw.choice(words, 10)) + " " for _ in range(n)]
        (folder / f"wiki.{part}.tokens").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
