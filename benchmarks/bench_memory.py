"""Peak memory of `limen gd` on vgg11, CIFAR-shaped data, with 500 projections a step and without.

Each run is a process of its own, whose peak resident set the system reports. Two steps, with one measurement of the
top eigenvalue: the pass that keeps gradient graphs goes over all 5 000 images; the products, which would take an hour
over all of them, go over the first chunk of 1 000, and need as much memory there as anywhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS = 2
COMMAND = (
    f"gd cifar10-5k vgg11 ce 0.01 {STEPS} --neigs 1 --eig_freq {STEPS} --abridged_size 1000 --eig_tol 0.1 "
    f"--audit_freq -1 --test_freq {STEPS} --quiet"
)
PROJECTIONS = "--nproj 500 --projection sketch --iterate_freq 1"
ALLOWED_GB, ALLOWED_RATIO = 6.0, 1.2


def run() -> None:
    print(f"limen {COMMAND} [{PROJECTIONS}]", flush=True)
    folder = data_dir()
    peaks = []
    for name, more in (("without projections", ""), ("with projections", PROJECTIONS)):
        peak, seconds = peak_gigabytes(f"{COMMAND} {more}".split(), folder)
        peaks.append(peak)
        print(f"{name:20} peak {peak:5.2f} GB, {seconds:4.0f} s of CPU", flush=True)
    within = "yes" if max(peaks) < ALLOWED_GB else "no"
    print(f"ratio {peaks[1] / peaks[0]:.3f}, allowed {ALLOWED_RATIO}; below {ALLOWED_GB:.0f} GB: {within}")


def peak_gigabytes(words: list[str], data: Path) -> tuple[float, float]:
    """Run `limen` with these words; return its peak resident memory in GB and its CPU seconds."""
    with tempfile.TemporaryDirectory() as results:
        where = ["--data_dir", str(data), "--results", results]
        child = subprocess.Popen([sys.executable, "-m", "limen", *words, *where])
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"limen {' '.join(words)} ended with {child.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes on Linux
    return used.ru_maxrss * unit / 1e9, used.ru_utime + used.ru_stime


def data_dir() -> Path:
    root = Path(__file__).parent.parent
    sys.path.insert(0, str(root / "tests"))
    import cifar_like

    return cifar_like.cached(root / ".cache" / "cifar-like")
