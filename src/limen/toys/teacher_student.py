"""A linear teacher and a diagonal student under label noise: which modes live (Chen et al. 2023, section 6)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limen.errors import InputError
from limen.objectives.factors import Factors
from limen.toys import checks
from limen.toys.brownian import Array, euler_exponent
from limen.toys.normals import Normals
from limen.toys.outcome import Check, Outcome, mean_and_error
from limen.toys.parallel import Tell, silent, spread
from limen.toys.relaxing import Moments, relax

CHUNK = 64
"""Seeds that advance as one tensor and share a stream of noise: part of what a seed means, not a knob."""

BLOCK = 16
"""Steps whose noise is drawn at once."""

STEADY = 0.7
"""E[ŝ] is compared with theory where one ŝ scatters by at most so much of its mean: beyond, few seeds make the mean."""

GRID = 5e-4
"""Relative error of the predicted laws."""

MODES = 16
"""Modes compared with theory one by one, about; losses compare all."""

DYING = 3.0
"""Decay is compared with theory where log ŝ has fallen by so many standard deviations of itself when it is measured."""


@dataclass(frozen=True)
class Problem:
    """Whitened data in the singular basis of XᵀY.

    Attributes:
        s: singular values of XᵀY (n,), descending.
        overlap: aᵢᵀWbᵢ (n,), of the teacher W with the singular vectors.
        teacher: ‖W‖².
        unexplained: ‖Y‖² − ‖XᵀY‖²: twice the training loss no student can lower.
    """

    s: Tensor
    overlap: Tensor
    teacher: float
    unexplained: float


def orthonormal(rows: int, columns: int, stream: Normals) -> Tensor:
    """Return a matrix (rows, columns) of orthonormal columns, uniform among all (QR with positive diagonal)."""
    q, r = torch.linalg.qr(stream.draw((rows, columns)))
    out: Tensor = q * r.diagonal().sign()
    return out


def teacher(seed: int, n: int, singular: Sequence[float]) -> Tensor:
    """Return W (n, n) with these singular values and random singular vectors."""
    left, right = (
        orthonormal(n, len(singular), Normals(seed, f"teacher-student/{side}")) for side in ("left", "right")
    )
    return left @ torch.diag(torch.tensor(list(singular), dtype=torch.float64)) @ right.T


def problem(seed: int, examples: int, n: int, singular: Sequence[float], noise: float) -> Problem:
    """Return X with orthonormal columns, Y = XW + noise·ξ/√n, seen from the singular basis of XᵀY."""
    w = teacher(seed, n, singular)
    x = orthonormal(examples, n, Normals(seed, "teacher-student/x"))
    y = x @ w + noise / math.sqrt(n) * Normals(seed, "teacher-student/y").draw((examples, n))
    correlation = x.T @ y
    left, s, right = torch.linalg.svd(correlation)
    return Problem(
        s,
        ((left.T @ w) * right).sum(-1),
        float(w.square().sum()),
        float(y.square().sum() - correlation.square().sum()),
    )


def run(
    *,
    sigmas: Sequence[float] = (0.0, 5.0, 10.0, 15.0, 20.0),
    seeds: int = 256,
    lr: float = 3.0,
    drop: float = 0.1,
    drop_at: int = 50_000,
    steps: int = 60_000,
    examples: int = 1024,
    n: int = 64,
    rank: int = 8,
    noise: float = 0.5,
    phases: Sequence[int] = (2_000, 5_000, 10_000, 20_000),
    record: int = 250,
    seed: int = 0,
    dtype: str = "float64",
    threads: int | None = None,
    tell: Tell = silent,
) -> Outcome:
    """Train û v̂ on the singular values s of whitened teacher data under label noise; published defaults.

    Each step of u and v has label noise σξ, the same ξ for all σ of a seed. With η = lr/N a mode follows
    ŝ(t) = ŝ∞/(1 + (ŝ∞/s₀ − 1)e^{−2ŝ∞t}), ŝ∞ = s − ησ²/2, t = η x step; where s < ησ²/2 it collapses. In the stationary
    state ŝ has a Gamma law of mean ŝ∞ and scale ησ², so its geometric mean is below ŝ∞.

    The arrays, L noises σ, K records and n modes:
        sigma (L,), s (n,), overlap (n,), step (K,), time (K,): Σ lr/N. rate (K,): the learning rate.
        geometric, arithmetic, error (L, K, n): means of ŝ over the seeds, and the standard error of the latter.
        noise_free (L, K, n): ŝ(t), gone on with the lower rate after the drop.
        theory, log_theory (L, K, n): E[ŝ] and E[log ŝ] by the Fokker–Planck equation of log ŝ (`limen.toys.relaxing`),
        and theory_scatter, log_scatter their standard deviations for one seed; nan for noise too small to resolve.
        train_loss, test_error (L, K): ½‖Y − XŴ‖² and the mean of (W − Ŵ)² over entries, means over the seeds; with
        _error, standard errors, and _theory, predictions.
        phase (F,), phase_error, phase_error_error, phase_theory (L, F): test error where the drop comes after so many
        steps and steps − drop_at steps more are taken; phase_gain, phase_gain_error: less that of the longest, seed by
        seed.
        rise, rise_error (L, n): of log ŝ from the drop to the end, seed by seed.
        decay, decay_error, decay_theory (L, n): of log ŝ over the second half of the large steps.

    Args:
        sigmas: label noise.
        seeds: rounded up to a multiple of 64.
        lr: learning rate.
        drop: factor at step `drop_at`.
        drop_at: when.
        steps: in all.
        examples: N.
        n: inputs and outputs.
        rank: of the teacher, whose singular values are evenly spaced from 1/2 to 1.
        noise: of the outputs, times 1/√n.
        phases: early phases of large learning rate, in steps, below `drop_at`; `drop_at` itself is added.
        record: steps between records.
        seed: of all draws.
        dtype: float64 or float32.
        threads: at once (all cores if None); results do not depend on it.
        tell: hears of progress.

    Raises:
        InputError: a parameter is out of its range; the message gives the bound.
    """
    kind = checks.precision(dtype)
    checks.noise("sigmas", sigmas)
    checks.noise("noise", (noise,))
    checks.at_least("seeds", seeds, 1)
    checks.at_least("examples", examples, n)
    if not 1 <= rank <= n:
        raise InputError(f"rank must lie in 1 … n = {n}, got {rank}.")
    if not 0 < drop_at < steps:
        raise InputError(f"drop_at must lie between 0 and steps = {steps}, got {drop_at}.")
    if any(not 0 <= phase < drop_at for phase in phases):
        raise InputError(f"phases must lie in 0 … drop_at = {drop_at}, got {list(phases)}.")
    given = problem(seed, examples, n, np.linspace(0.5, 1, rank).tolist(), noise)
    largest = float(given.s[0])
    checks.time_step(
        "lr",
        lr,
        examples / largest,
        f"N over the largest singular value {largest:.4g}, whose minimum has sharpness 2s/N",
    )
    grid = np.array(sorted({*range(0, steps, record), drop_at, drop_at // 2, steps}))
    chunks = math.ceil(seeds / CHUNK)
    early = sorted(set(phases))
    landscape = Factors(given.s.to(kind), examples)
    levels = torch.tensor(list(sigmas), dtype=kind)[:, None, None]

    def work(chunk: int) -> tuple[Array, ...]:
        args = (landscape, given, levels, grid, early, lr, drop, drop_at, seed, chunk)
        return _train(*args, tell=lambda fraction: tell(fraction / chunks))

    done = spread(work, list(range(chunks)), threads, flush=kind == torch.float32)
    parts = list(zip(*done, strict=True))
    logs, train, test, tails = (np.concatenate(part, axis=1) for part in parts)
    # (L, seeds, K, n), (L, seeds, K), (L, seeds, K), (L, seeds, F)
    products = np.exp(logs)
    arithmetic, error = mean_and_error(products, 1)
    middle, end = (int(np.flatnonzero(grid == step)[0]) for step in (drop_at // 2, drop_at))
    span = drop_at - drop_at // 2
    decay, decay_error = mean_and_error((logs[:, :, end] - logs[:, :, middle]) / span, 1)
    rise, rise_error = mean_and_error(logs[:, :, -1] - logs[:, :, end], 1)
    eta = lr / examples
    exponents = [
        [euler_exponent(s, sigma * math.sqrt(eta), eta)[0] for s in given.s.tolist()] for sigma in sigmas
    ]
    phases_end = np.concatenate([tails, test[:, :, -1:]], axis=2)
    phase_error, phase_error_error = mean_and_error(phases_end, 1)
    phase_gain, phase_gain_error = mean_and_error(phases_end - phases_end[..., -1:], 1)
    laws = [
        relax(given.s.numpy(), sigma, eta, drop, drop_at, grid.tolist(), [*early, drop_at], steps - drop_at)
        if sigma > 0
        else None
        for sigma in sigmas
    ]
    expected = expectations(laws, given, len(grid), len(early) + 1)
    (train_mean, train_error), (test_mean, test_error) = (mean_and_error(one, 1) for one in (train, test))
    rates = np.where(grid < drop_at, lr, lr * drop)
    times = (np.minimum(grid, drop_at) * lr + np.maximum(grid - drop_at, 0) * lr * drop) / examples
    arrays = {
        "sigma": np.asarray(sigmas, dtype=float),
        "s": given.s.numpy(),
        "overlap": given.overlap.numpy(),
        "step": grid.astype(float),
        "time": times,
        "rate": rates,
        "geometric": np.exp(logs.mean(1)),
        "arithmetic": arithmetic,
        "error": error,
        "noise_free": np.array(
            [noise_free(given.s.numpy(), sigma, eta, drop, float(times[end]), times) for sigma in sigmas]
        ),
        "train_loss": train_mean,
        "train_loss_error": train_error,
        "test_error": test_mean,
        "test_error_error": test_error,
        "phase": np.array([*early, drop_at], dtype=float),
        "phase_error": phase_error,
        "phase_error_error": phase_error_error,
        "phase_gain": phase_gain,
        "phase_gain_error": phase_gain_error,
        "rise": rise,
        "rise_error": rise_error,
        "decay": decay,
        "decay_error": decay_error,
        "decay_theory": 2 * eta * np.array(exponents),
        **expected,
    }
    parameters = {
        "sigmas": list(sigmas),
        "collapse_below": [eta * sigma**2 / 2 for sigma in sigmas],
        "seeds": chunks * CHUNK,
        "lr": lr,
        "drop": drop,
        "drop_at": drop_at,
        "steps": steps,
        "examples": examples,
        "n": n,
        "rank": rank,
        "noise": noise,
        "phases": early,
        "seed": seed,
        "dtype": dtype,
    }
    return Outcome("teacher-student", parameters, arrays, verdict(parameters, arrays))


def _train(
    landscape: Factors,
    given: Problem,
    levels: Tensor,
    grid: Array,
    early: Sequence[int],
    lr: float,
    drop: float,
    drop_at: int,
    seed: int,
    chunk: int,
    *,
    tell: Tell = silent,
) -> tuple[Array, ...]:
    """Train one chunk of seeds at all noises; return log ŝ (L, C, K, n), losses (L, C, K) and tails (L, C, F)."""
    steps = int(grid[-1])
    work = steps + len(early) * (steps - drop_at)
    shape = (len(levels), CHUNK, landscape.modes)
    u, v = (torch.ones(shape, dtype=levels.dtype) for _ in range(2))
    kept, tails = [], []
    wanted = set(grid.tolist())

    def go(u: Tensor, v: Tensor, begin: int, end: int, name: str, low_from: int) -> None:
        stream = Normals(seed, f"teacher-student/{name}", chunk, levels.dtype)
        xi = torch.empty(BLOCK, *shape[1:], dtype=levels.dtype)
        shift = torch.empty(shape, dtype=levels.dtype)
        high, low = lr / landscape.count, lr * drop / landscape.count
        for step in range(begin, end):
            if name == "noise" and step in wanted:
                kept.append((u * v).double())
            if name == "noise" and step in early:
                after = u.clone(), v.clone()
                go(*after, step, step + steps - drop_at, f"tail/{step}", step)
                tails.append((after[0] * after[1]).double())
            place = (step - begin) % BLOCK
            if place == 0:
                stream.fill(xi)
            if step % 1000 == 0:
                tell(1000 / work)
            torch.mul(levels, xi[place], out=shift)
            landscape.descend_(u, v, shift, high if step < low_from else low)

    go(u, v, 0, steps, "noise", drop_at)
    kept.append((u * v).double())
    products = torch.stack(kept, dim=2)
    if not bool(torch.isfinite(products).all()):
        raise InputError(f"a student diverged at lr = {lr:g}: lower lr, or the noise.")
    train = 0.5 * (given.unexplained + (products - given.s).square().sum(-1))
    late = torch.stack(tails, dim=2) if tails else products[:, :, :0]
    logs = products.abs().clamp_min(1e-300).log()
    return logs.numpy(), train.numpy(), _test_error(products, given).numpy(), _test_error(late, given).numpy()


def _test_error(products: Tensor, given: Problem) -> Tensor:
    """Return the mean of (W − Ŵ)² over entries, Ŵ = Σ ŝᵢaᵢbᵢᵀ."""
    n = len(given.s)
    total: Tensor = given.teacher - 2 * (products * given.overlap).sum(-1) + products.square().sum(-1)
    return total / n**2


def logistic(start: Array, limit: Array, t: Array) -> Array:
    """Return ŝ(t) (K, n) of ŝ' = 2ŝ(ŝ∞ − ŝ) from ŝ(0) = start: what a balanced pair of factors follows.

    >>> logistic(np.array([1.0]), np.array([0.0]), np.array([0.0, 0.5])).round(3).tolist()
    [[1.0], [0.5]]
    """
    rate = 2 * limit * t[:, None]
    # (1 − e^{−x})/x, with its limit at 0
    shrink = np.where(np.abs(rate) < 1e-12, 1.0, -np.expm1(-rate) / np.where(np.abs(rate) < 1e-12, 1.0, rate))
    out: Array = 1 / (np.exp(-rate) / start + 2 * t[:, None] * shrink)
    return out


def noise_free(s: Array, sigma: float, eta: float, drop: float, t_drop: float, times: Array) -> Array:
    """Return ŝ(t) (K, n) from ŝ(0) = 1, with ŝ∞ = s − ησ²/2 and after the drop with that of the lower rate."""
    before = logistic(np.ones_like(s), s - eta * sigma**2 / 2, np.minimum(times, t_drop))
    middle = logistic(np.ones_like(s), s - eta * sigma**2 / 2, np.array([t_drop]))[0]
    after = logistic(middle, s - eta * drop * sigma**2 / 2, np.maximum(times - t_drop, 0.0))
    out: Array = np.where((times <= t_drop)[:, None], before, after)
    return out


def expectations(
    laws: Sequence[tuple[Moments, Moments] | None], given: Problem, records: int, phases: int
) -> dict[str, Array]:
    """Return what the law of each noise level says of modes, losses and phases; nan where there is none."""
    n = len(given.s)
    shape = {"modes": (records, n), "losses": (records,), "phases": (phases,)}

    def losses(law: Moments) -> tuple[Array, Array]:
        s, overlap = given.s.numpy(), given.overlap.numpy()
        train = 0.5 * (given.unexplained + (law.square - 2 * s * law.mean + s**2).sum(-1))
        test = given.teacher - 2 * (law.mean * overlap).sum(-1) + law.square.sum(-1)
        return train, test / n**2

    rows = []
    for law in laws:
        if law is None:
            modes, kept, ends = (np.full(size, math.nan) for size in shape.values())
            rows.append((modes, modes, modes, modes, kept, kept, ends))
        else:
            path, tails = law
            parts = (path.mean, path.scatter("mean"), path.log, path.scatter("log"))
            rows.append((*parts, *losses(path), losses(tails)[1]))
    names = (
        "theory",
        "theory_scatter",
        "log_theory",
        "log_scatter",
        "train_loss_theory",
        "test_error_theory",
        "phase_theory",
    )
    return {name: np.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def compared(parameters: Mapping[str, Any], arrays: Mapping[str, Array]) -> tuple[list[int], list[int]]:
    """Return the records compared with theory, in the transient, before and after the drop, and the modes."""
    step, drop_at = arrays["step"], parameters["drop_at"]
    after = drop_at + 0.5 * (parameters["steps"] - drop_at)
    times = [int(np.abs(step - at).argmin()) for at in (drop_at / 32, drop_at / 8, drop_at, after, step[-1])]
    count = len(arrays["s"])
    return sorted({*times} - {0}), list(range(0, count, max(1, count // MODES)))


def verdict(parameters: Mapping[str, Any], arrays: Mapping[str, Array]) -> list[Check]:
    """Return modes, losses and phases beside what theory says, in the transient, before the drop and after it."""
    found: list[Check] = []
    seeds, eta = parameters["seeds"], parameters["lr"] / parameters["examples"]
    records, modes = compared(parameters, arrays)
    higher = "prediction: the Fokker-Planck equation of log s; the allowance is of its step and grid"
    for level, sigma in enumerate(arrays["sigma"]):
        if sigma == 0:
            continue
        if np.isnan(arrays["theory"][level]).any():
            found.append(
                Check.skip(f"law of the modes at sigma={sigma:g}", "the noise is too small to resolve")
            )
            continue
        for record in records:
            at = f"at step {arrays['step'][record]:.0f}, sigma={sigma:g}"
            for mode in modes:
                where = (level, record, mode)
                s, mean = arrays["s"][mode], float(arrays["theory"][where])
                scatter = float(arrays["theory_scatter"][where])
                if scatter < STEADY * mean:
                    found.append(
                        Check(
                            f"E[s] {at}, s={s:.4f}",
                            float(arrays["arithmetic"][where]),
                            mean,
                            scatter / math.sqrt(seeds),
                            (eta * mean) ** 2 + GRID * mean,
                            higher,
                        )
                    )
                found.append(
                    Check(
                        f"E[log s] {at}, s={s:.4f}",
                        float(np.log(arrays["geometric"][where])),
                        float(arrays["log_theory"][where]),
                        float(arrays["log_scatter"][where]) / math.sqrt(seeds),
                        GRID,
                        higher,
                    )
                )
            for key, name in (("train_loss", "training loss"), ("test_error", "test error")):
                found.append(
                    Check(
                        f"{name} {at}",
                        float(arrays[key][level, record]),
                        float(arrays[f"{key}_theory"][level, record]),
                        float(arrays[f"{key}_error"][level, record]),
                        GRID * float(arrays[f"{key}_theory"][level, record]),
                        higher,
                    )
                )
        for phase, step in enumerate(arrays["phase"][:-1]):
            # against the longest phase; one seed has the same start in both, other noise afterwards
            found.append(
                Check(
                    f"final test error after a phase of {step:.0f} at sigma={sigma:g}, less that of the longest",
                    float(arrays["phase_gain"][level, phase]),
                    float(arrays["phase_theory"][level, phase] - arrays["phase_theory"][level, -1]),
                    float(arrays["phase_gain_error"][level, phase]),
                    GRID * float(arrays["phase_theory"][level, phase]),
                    higher,
                )
            )
        end = int(np.flatnonzero(arrays["step"] == parameters["drop_at"])[0])
        for mode in modes:
            log = arrays["log_theory"][level, :, mode]
            found.append(
                Check(
                    f"rise of E[log s] after the drop at sigma={sigma:g}, s={arrays['s'][mode]:.4f}",
                    float(arrays["rise"][level, mode]),
                    float(log[-1] - log[end]),
                    float(arrays["rise_error"][level, mode]),
                    GRID,
                    higher,
                )
            )
        found += dying(parameters, arrays, level, modes)
    return found


def dying(
    parameters: Mapping[str, Any], arrays: Mapping[str, Array], level: int, modes: Sequence[int]
) -> list[Check]:
    """Return how fast the modes below ½ησ² die beside the exponent of their steps."""
    eta, drop_at = parameters["lr"] / parameters["examples"], parameters["drop_at"]
    sigma, half = float(arrays["sigma"][level]), drop_at // 2
    scatter = 2 * eta * sigma * math.sqrt(half)
    return [
        Check(
            f"decay of log s a step at sigma={sigma:g}, s={arrays['s'][mode]:.4f}",
            float(arrays["decay"][level, mode]),
            float(arrays["decay_theory"][level, mode]),
            float(arrays["decay_error"][level, mode]),
            note="prediction for steps of this length",
        )
        for mode in modes
        if arrays["decay_theory"][level, mode] * half < -DYING * scatter
    ]
