"""Write a deterministic CIFAR-shaped data set in the official 'python version' folder layout.

Images are a smooth class template, a smooth warp per sample and noise, as uint8, so that a net learns them
gradually: the real file format and pickle dialect, made-up pixels.

Usage: python tests/cifar_like.py ROOT [CLASSES]
"""

from __future__ import annotations

import hashlib
import pickle
import shutil
import struct
import sys
import tempfile
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

BLOCK = 5000  # images drawn together: part of the data's definition
CHUNK = 25  # images worked on together: fits the cache, changes nothing


class Python2Pickler(pickle._Pickler):
    """Emit what Python 2 wrote: byte strings as BINSTRING, NumPy under its old module name."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012 - the base class has it so

    def save_bytes(self, obj):
        self.write(b"T" + struct.pack("<i", len(obj)))
        self.write(obj)
        self.memoize(obj)

    def save_global(self, obj, name=None):
        if obj.__module__.startswith("numpy") and obj.__name__ == "_reconstruct":
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch[bytes] = save_bytes
    dispatch[types.FunctionType] = dispatch[types.BuiltinFunctionType] = save_global


def smooth(low):
    """Interpolate a coarse (n, 3, k, k) grid to (n, 3, 32, 32)."""
    k = low.shape[-1]
    t = np.linspace(0, k - 1, 32)
    i = np.minimum(t.astype(int), k - 2)
    f = (t - i).astype(np.float32)
    rows = low[:, :, i, :] * (1 - f)[:, None] + low[:, :, i + 1, :] * f[:, None]
    return rows[:, :, :, i] * (1 - f) + rows[:, :, :, i + 1] * f


def coarse(rng, n, k):
    return rng.standard_normal((n, 3, k, k)).astype(np.float32)


def images(rng, labels, templates):
    out = np.empty((len(labels), 3072), np.uint8)

    def paint(low, noise, rows):
        x = smooth(low)
        x *= np.float32(0.9)
        x += templates[labels[rows]]
        x += np.float32(0.35) * noise.astype(np.float32)
        x *= 45
        x += 128
        out[rows] = np.clip(x, 0, 255, out=x).reshape(len(x), -1)

    with ThreadPoolExecutor(1) as painter:  # this thread draws, that one paints
        for block in range(0, len(labels), BLOCK):
            low = coarse(rng, BLOCK, 6)
            painted = []
            for start in range(0, BLOCK, CHUNK):
                noise = rng.standard_normal((CHUNK, 3, 32, 32))
                rows = slice(block + start, block + start + CHUNK)
                painted.append(painter.submit(paint, low[start : start + CHUNK], noise, rows))
            for work in painted:
                work.result()
    return out


def write(root, classes=10):
    """Write `root`/cifar-10-batches-py (classes=10) or `root`/cifar-100-python (100); return it."""
    rng = np.random.default_rng(20260 + classes)
    templates = smooth(coarse(rng, classes, 5))
    labels, test_labels = rng.integers(0, classes, 50000), rng.integers(0, classes, 10000)
    data = images(rng, labels, templates)
    test = images(rng, test_labels, templates)
    folder = Path(root) / ("cifar-10-batches-py" if classes == 10 else "cifar-100-python")
    folder.mkdir(parents=True, exist_ok=True)

    def dump(name, content):
        with (folder / name).open("wb") as file:
            Python2Pickler(file, protocol=2).dump(content)

    def batch10(y, x):
        return {b"batch_label": b"x", b"labels": y.tolist(), b"data": x, b"filenames": [b"f"] * len(y)}

    def batch100(y, x):
        names = {b"filenames": [b"f"] * len(y), b"batch_label": b"x"}
        return {**names, b"fine_labels": y.tolist(), b"coarse_labels": (y // 5).tolist(), b"data": x}

    if classes == 10:
        for k in range(5):
            rows = slice(k * 10000, (k + 1) * 10000)
            dump(f"data_batch_{k + 1}", batch10(labels[rows], data[rows]))
        dump("test_batch", batch10(test_labels, test))
        label_names = [b"c%d" % i for i in range(10)]
        dump("batches.meta", {b"num_cases_per_batch": 10000, b"label_names": label_names, b"num_vis": 3072})
    else:
        dump("train", batch100(labels, data))
        dump("test", batch100(test_labels, test))
        fine, groups = [b"c%d" % i for i in range(100)], [b"s%d" % i for i in range(20)]
        dump("meta", {b"fine_label_names": fine, b"coarse_label_names": groups})
    return folder


def cached(root: Path, classes: int = 10) -> Path:
    """Return a folder below `root` that holds the data, written once for each version of this file."""
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    folder = root / (version if classes == 10 else f"{version}-{classes}")
    if not folder.exists():
        root.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=root))
        try:
            write(made, classes)
            made.rename(folder)  # fails where another worker was quicker: its folder is the same
        except OSError:
            if not folder.exists():
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder


if __name__ == "__main__":
    print(write(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10))
