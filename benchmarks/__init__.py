"""Benchmarks: each `bench_*.py` measures one thing in pairs, in one process, and prints ratios."""
