"""`python -m benchmarks [name …]` runs all benchmarks but the long ones, or those named, on one thread."""

from __future__ import annotations

import importlib
import platform
import sys
from pathlib import Path

import torch

LONG = {"memory"}
"""Those that take more than some minutes and run only when named."""


def main() -> None:
    torch.set_num_threads(1)
    here = Path(__file__).parent
    known = {path.stem.removeprefix("bench_") for path in here.glob("bench_*.py")}
    names = sys.argv[1:] or sorted(known - LONG)
    print(f"torch {torch.__version__}, {platform.machine()}, {_processor()}, 1 thread, CPU time")
    for name in names:
        print(f"\n== {name}")
        importlib.import_module(f"benchmarks.bench_{name}").run()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
