"""`limen toy`: the solvable systems, simulated, drawn over their theory, and judged."""

from __future__ import annotations

import inspect
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from limen.toys import Check, Outcome

SHOWN = 12
"""Checks printed at most; the JSON file has all."""


def _list(what: str, default: str) -> Parameter:
    return Parameter(help=f"{what}: with commas, or FROM:TO:COUNT, evenly spaced (default: {default}).")


Output = Annotated[
    str | None, Parameter(name=["--output", "-o"], help="PNG, PDF or SVG (default: toy_SYSTEM.png).")
]
Json = Annotated[
    str | None, Parameter(name="--json", help="Measured against predicted (default: beside the figure).")
]
ArraysFile = Annotated[
    str | None, Parameter(name="--arrays", help="Write the arrays to this .npz file as well.")
]
Seed = Annotated[int, Parameter(help="Seed of all draws.")]
Dtype = Annotated[str, Parameter(help="float64 or float32.")]
Threads = Annotated[int | None, Parameter(help="Threads (default: all cores); results do not depend on it.")]
Quiet = Annotated[bool, Parameter(help="No progress bar.")]


def register(app: App) -> None:
    """Add the command and its systems."""
    group = App(name="toy", help="Small systems whose theory is known: simulate one, draw both, and judge.")
    for command in (quartic, neuron, two_neurons, teacher_student, uv, quadratic):
        group.command(command)
    app.command(group)


def quartic(
    *,
    mu: Annotated[float, Parameter(help="Curvature of the hump.")] = 1.5,
    zetas: Annotated[str | None, _list("Noise levels", "0:3:100")] = None,
    paths: Annotated[int, Parameter(help="Trajectories a noise level.")] = 1000,
    dt: Annotated[float, Parameter(help="Time step.")] = 0.0025,
    snapshots: Annotated[
        str | None, _list("Steps at which collapsed paths are counted", "0,10000,20000,40000,80000")
    ] = None,
    seed: Seed = 0,
    dtype: Dtype = "float64",
    threads: Threads = None,
    output: Output = None,
    json_file: Json = None,
    arrays: ArraysFile = None,
    quiet: Quiet = False,
) -> int:
    """Quartic well, dθ = −(θ³ − μθ) dt + ζθ dB: collapse beyond ζ = √(2μ); zetas are noise levels, snapshots steps."""
    given: dict[str, Any] = {"mu": mu, "zetas": _floats(zetas, "zetas"), "paths": paths, "dt": dt}
    given |= {"snapshots": _whole(snapshots, "snapshots")}
    return _run("quartic", locals(), given)


def neuron(
    *,
    etas: Annotated[str | None, _list("Learning rates", "0:1:5, 1.05:2.5:40 and 2.6:4:5")] = None,
    zeta: Annotated[float, Parameter(help="Label noise.")] = 1.0,
    activation: Annotated[str, Parameter(help="tanh, linear, sin, erf, gelu or silu.")] = "tanh",
    examples: Annotated[int, Parameter(help="Data points.")] = 32,
    paths: Annotated[int, Parameter(help="Trajectories a learning rate.")] = 1000,
    dt: Annotated[float, Parameter(help="Time step.")] = 0.01,
    times: Annotated[str | None, _list("Times at which dead neurons are counted", "100,200,400,1000")] = None,
    seed: Seed = 0,
    dtype: Dtype = "float64",
    threads: Threads = None,
    output: Output = None,
    json_file: Json = None,
    arrays: ArraysFile = None,
    quiet: Quiet = False,
) -> int:
    """Single neuron w₂σ(w₁x) under label noise: it dies beyond a learning rate; etas are learning rates."""
    given: dict[str, Any] = {
        "etas": _floats(etas, "etas"),
        "zeta": zeta,
        "activation": activation,
        "examples": examples,
    }
    given |= {"paths": paths, "dt": dt, "times": _floats(times, "times")}
    return _run("neuron", locals(), given)


def two_neurons(
    *,
    lrs: Annotated[str | None, _list("Learning rates at the noise sigma", "0.1:0.5:5")] = None,
    sigmas: Annotated[str | None, _list("Noises at the learning rate lr", "0,0.1,0.2,0.4,0.8")] = None,
    lr: Annotated[float, Parameter(help="Learning rate of the sweep over noise.")] = 0.1,
    sigma: Annotated[float, Parameter(help="Noise of the sweep over learning rates.")] = 0.1,
    momentum: Annotated[float, Parameter(help="Heavy-ball momentum.")] = 0.9,
    activation: Annotated[str, Parameter(help="tanh, linear, sin, erf, gelu or silu.")] = "gelu",
    steps: Annotated[int, Parameter(help="States, the start included.")] = 10_001,
    seeds: Annotated[int, Parameter(help="Runs, each of its own noise.")] = 8,
    data_seed: Annotated[int, Parameter(help="Seed of the data.")] = 0,
    seed: Seed = 0,
    dtype: Dtype = "float64",
    threads: Threads = None,
    output: Output = None,
    json_file: Json = None,
    arrays: ArraysFile = None,
    quiet: Quiet = False,
) -> int:
    """Two neurons that label noise makes one: ‖w₁ − w₂‖² against steps, for learning rates lrs and noises sigmas."""
    given: dict[str, Any] = {
        "lrs": _floats(lrs, "lrs"),
        "sigmas": _floats(sigmas, "sigmas"),
        "lr": lr,
        "sigma": sigma,
    }
    given |= {"momentum": momentum, "activation": activation, "steps": steps, "seeds": seeds}
    given |= {"data_seed": data_seed}
    return _run("two_neurons", locals(), given)


def teacher_student(
    *,
    general: Annotated[bool, Parameter(help="Any basis; small batches are the noise.")] = False,
    sigmas: Annotated[str | None, _list("Label noises (diagonal)", "0,5,10,15,20")] = None,
    seeds: Annotated[int | None, Parameter(help="How many (diagonal; default: 256).")] = None,
    lr: Annotated[float | None, Parameter(help="Learning rate (diagonal; default: 3).")] = None,
    phases: Annotated[
        str | None, _list("Lengths of the first phase, in steps (diagonal)", "2000,5000,10000,20000")
    ] = None,
    batches: Annotated[str | None, _list("Batch sizes (general)", "1,2,4,8,16,1024")] = None,
    steps: Annotated[int | None, Parameter(help="In all (default: 60000; general: 100001).")] = None,
    drop_at: Annotated[
        str | None, _list("Step at which the learning rate drops", "50000; general: 50000,53000")
    ] = None,
    seed: Seed = 0,
    dtype: Dtype = "float64",
    threads: Threads = None,
    output: Output = None,
    json_file: Json = None,
    arrays: ArraysFile = None,
    quiet: Quiet = False,
) -> int:
    """Linear teacher and student: label noise sigmas kill the modes below ½ησ²; with --general, batches do."""
    from limen.errors import InputError

    alone = (
        {"batches": batches}
        if not general
        else {"sigmas": sigmas, "seeds": seeds, "lr": lr, "phases": phases}
    )
    for name, value in alone.items():
        if value is not None:
            raise InputError(
                f"{name} is for the {'general' if not general else 'diagonal'} student; leave it out."
            )
    drops = _whole(drop_at, "drop_at")
    if general:
        given: dict[str, Any] = {"batches": _whole(batches, "batches"), "steps": steps, "drops_at": drops}
        return _run("teacher_student_general", locals(), given)
    if drops is not None and len(drops) != 1:
        raise InputError(f"drop_at: the diagonal student has one drop, got {drop_at}.")
    given = {"sigmas": _floats(sigmas, "sigmas"), "seeds": seeds, "lr": lr, "steps": steps}
    given |= {"phases": _whole(phases, "phases"), "drop_at": None if drops is None else drops[0]}
    return _run("teacher_student", locals(), given)


def uv(
    *,
    rates: Annotated[str | None, _list("Learning rate x initial sharpness", "0.1:4.5:45")] = None,
    width: Annotated[int, Parameter(help="Hidden units.")] = 512,
    seeds: Annotated[int, Parameter(help="Initial weights.")] = 32,
    steps: Annotated[int, Parameter(help="Of descent.")] = 300,
    seed: Seed = 0,
    dtype: Dtype = "float64",
    output: Output = None,
    json_file: Json = None,
    arrays: ArraysFile = None,
    quiet: Quiet = False,
) -> int:
    """Product of two layers u·v/√m: lazy, catapult, divergent; rates are learning rate x initial sharpness."""
    given: dict[str, Any] = {"rates": _floats(rates, "rates"), "width": width, "seeds": seeds, "steps": steps}
    return _run("uv", locals(), given)


def quadratic(
    *,
    asymmetries: Annotated[str | None, _list("Curvatures -eps beside 1", "1,0.3,0.1,0.03,0.01")] = None,
    starts: Annotated[int, Parameter(help="How many for each asymmetry.")] = 1000,
    steps: Annotated[int, Parameter(help="Of descent on the regression.")] = 5000,
    lr: Annotated[float, Parameter(help="Learning rate in the valley.")] = 0.01,
    drift: Annotated[float, Parameter(help="How fast the valley sharpens.")] = 0.5,
    seed: Seed = 0,
    dtype: Dtype = "float64",
    output: Output = None,
    json_file: Json = None,
    arrays: ArraysFile = None,
    quiet: Quiet = False,
) -> int:
    """Quadratic regression and a valley that sharpens: self-stabilisation at the edge of stability."""
    given: dict[str, Any] = {
        "asymmetries": _floats(asymmetries, "asymmetries"),
        "starts": starts,
        "steps": steps,
    }
    return _run("quadratic", locals(), given | {"lr": lr, "drift": drift})


def _run(system: str, words: Mapping[str, Any], given: Mapping[str, Any]) -> int:
    """Simulate, draw, write and print; 1 where the theory does not hold."""
    import importlib

    from limen.plots.toys import toy

    named = system.replace("_", "-")
    figure = Path(words["output"] or f"toy_{named}.png")
    verdict = Path(words["json_file"]) if words["json_file"] is not None else figure.with_suffix(".json")
    arrays = Path(words["arrays"]) if words["arrays"] is not None else None
    _check_paths(figure, verdict, arrays)
    run: Callable[..., Outcome] = importlib.import_module(f"limen.toys.{system}").run
    common = {name: words[name] for name in ("seed", "dtype", "threads") if name in words}
    accepted = inspect.signature(run).parameters
    chosen = {
        name: value for name, value in {**given, **common}.items() if value is not None and name in accepted
    }
    begun = time.perf_counter()
    with _Bar(named, quiet=words["quiet"]) as bar:
        outcome = run(**chosen, tell=bar)
    seconds = time.perf_counter() - begun
    toy(outcome, figure)
    _write_json(verdict, outcome, seconds)
    if arrays is not None:
        _write_arrays(arrays, outcome)
    print("\n".join([*_report(outcome, seconds), str(figure), str(verdict)]))
    return 1 if outcome.holds is False else 0


def _check_paths(figure: Path, verdict: Path, arrays: Path | None) -> None:
    """Refuse, before minutes of work, a file that could not be written after them."""
    import os

    from limen.errors import InputError, StoreError
    from limen.plots.save import format_of

    format_of(figure)
    if arrays is not None and arrays.suffix != ".npz":
        raise InputError(f"arrays: expected a file name ending in .npz, got {str(arrays)!r}.")
    wanted = [path for path in (figure, verdict, arrays) if path is not None]
    if len(set(wanted)) < len(wanted):
        raise InputError(f"figure, JSON and arrays need a file each, got {', '.join(map(str, wanted))}.")
    for path in wanted:
        folder = next(place for place in path.absolute().parents if place.exists())
        if path.is_dir():
            problem = "it is a folder"
        elif not folder.is_dir():
            problem = f"{str(folder)!r} is no folder"
        elif not os.access(folder, os.W_OK):
            problem = f"{str(folder)!r} may not be written to"
        else:
            continue
        raise StoreError(f"cannot write {str(path)!r}: {problem}. Name a file in a folder you may write to.")


def _report(outcome: Outcome, seconds: float) -> list[str]:
    """Return the worst checks, those that could not be made, and the verdict."""
    lines = [f"the worst of {outcome.system}:", *_table(outcome)] if outcome.judged else []
    lines += [f"not judged: {check.name}: {check.skipped}" for check in outcome.skipped[:SHOWN]]
    if outcome.holds is None:
        return [*lines, f"no check could be made: the theory is not judged ({seconds:.1f} s)"]
    beyond = len(outcome.failed)
    said = f"{len(outcome.judged)} checks, {beyond} beyond 3 standard errors; all must be within {outcome.limit:.2f}"
    verdict = "the theory holds" if outcome.holds else "THE THEORY DOES NOT HOLD"
    return [*lines, f"{said}: {verdict} ({seconds:.1f} s)"]


def _table(outcome: Outcome) -> list[str]:
    """Return the worst checks, what is not a number first."""
    worst = sorted(outcome.judged, key=_distance, reverse=True)[:SHOWN]
    head = ("measured", "predicted", "error", "off by", "")
    rows = [head, *[_row(check) for check in worst]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    cells = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return ["  ".join([*line[:-1], row[-1]]) for line, row in zip(cells, rows, strict=True)]


def _distance(check: Check) -> tuple[bool, float]:
    return (True, 0.0) if math.isnan(check.deviation) else (False, check.deviation)


SIGN = {"is": "", "at most": "≤ ", "below": "< "}


def _row(check: Check) -> tuple[str, ...]:
    error = f"{check.error:.2g}" if check.error > 0 else f"±{check.allowance:.2g}"
    predicted = f"{SIGN[check.kind]}{check.predicted:.5g}"
    return f"{check.measured:.5g}", predicted, error, f"{check.deviation:.2f}", check.name


def _write_json(path: Path, outcome: Outcome, seconds: float) -> None:
    import json

    from limen import __version__

    content = {"limen": __version__, "seconds": round(seconds, 3), **outcome.to_dict()}
    _write(path, json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")


def _write_arrays(path: Path, outcome: Outcome) -> None:
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **outcome.arrays)  # type: ignore[arg-type]
    _write(path, buffer.getvalue())


def _write(path: Path, content: bytes) -> None:
    from limen.errors import StoreError
    from limen.store import files

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, content)
    except OSError as error:
        raise StoreError(
            f"cannot write {str(path)!r}: {error.strerror or error}. Name a file in a folder you may write to."
        ) from error


class _Bar:
    """A progress bar on a terminal, nothing elsewhere."""

    def __init__(self, name: str, *, quiet: bool) -> None:
        from tqdm import tqdm

        hidden = quiet or not sys.stderr.isatty()
        form = "{l_bar}{bar}| {elapsed}<{remaining}"
        self.bar = tqdm(total=1.0, desc=name, disable=hidden, dynamic_ncols=True, bar_format=form)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *ended: object) -> None:
        self.bar.close()

    def __call__(self, fraction: float) -> None:
        self.bar.update(min(fraction, 1.0 - self.bar.n))


def _floats(text: str | None, name: str) -> list[float] | None:
    """Read numbers with commas between them, or FROM:TO:COUNT."""
    from limen.errors import InputError

    if text is None:
        return None
    try:
        if text.count(":") == 2:
            low, high, count = text.split(":")
            if int(count) < 2:
                raise ValueError
            gap = (float(high) - float(low)) / (int(count) - 1)
            numbers = [float(low) + i * gap for i in range(int(count))]
        else:
            numbers = [float(word) for word in text.split(",")]
        if not all(map(math.isfinite, numbers)):
            raise ValueError
        return numbers
    except (ValueError, OverflowError):
        raise InputError(
            f"{name}: expected finite numbers with commas between them, or FROM:TO:COUNT "
            f"with COUNT of at least 2, got {text!r}."
        ) from None


def _whole(text: str | None, name: str) -> list[int] | None:
    from limen.errors import InputError

    numbers = _floats(text, name)
    if numbers is None:
        return None
    if any(not number.is_integer() for number in numbers):
        raise InputError(f"{name}: expected whole numbers, got {text!r}.")
    return [int(number) for number in numbers]
