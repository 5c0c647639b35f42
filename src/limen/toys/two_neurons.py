"""Two neurons that label noise makes one (Chen et al. 2023, section 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from limen.errors import InputError
from limen.objectives.units import Units
from limen.toys import checks
from limen.toys.brownian import Array
from limen.toys.normals import Normals
from limen.toys.outcome import Check, Outcome, mean_and_error
from limen.toys.parallel import Tell, silent, spread

START = (1.0, 0.6, -0.6, -0.4)
"""Incoming weights of the two neurons, then their outgoing ones."""

APART = 1e-6
"""Separation from which the exponent of the invariant set is measured."""

RESOLVED = 1e-26
"""‖w₁ − w₂‖² above this is resolved in float64."""

NEAR = 0.01
"""‖w₁ − w₂‖² at the end above this: the neurons have gone different ways, to another minimum."""

FEWEST = 4
"""Seeds that an exponent is fitted to."""

BLOCK = 500
"""Steps whose noise is drawn at once."""


def data(seed: int, examples: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x, x_test, y, y_test ~ N(0, 1), each (examples,), as torch draws them after `manual_seed(seed)`."""
    draw = torch.Generator().manual_seed(seed)
    x, x_test, y, y_test = (torch.randn(examples, 1, generator=draw)[:, 0].double() for _ in range(4))
    return x, x_test, y, y_test


def run(
    *,
    lrs: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5),
    sigmas: Sequence[float] = (0.0, 0.1, 0.2, 0.4, 0.8),
    lr: float = 0.1,
    sigma: float = 0.1,
    momentum: float = 0.9,
    examples: int = 8,
    activation: str = "gelu",
    steps: int = 10_001,
    seeds: int = 8,
    reference_seeds: int = 64,
    seed: int = 0,
    dtype: str = "float64",
    threads: int | None = None,
    tell: Tell = silent,
) -> Outcome:
    """Train f(x) = Σⱼv_jσ(u_jx), j = 1, 2, under fresh label noise and follow ‖w₁ − w₂‖²; published defaults.

    The R runs are the learning rates `lrs` at noise `sigma`, then the noises `sigmas` at learning rate `lr`. All runs
    of a seed see the same noise, up to its strength, as published.

    The arrays:
        lr, sigma (R,). step (T,), distance (R, seeds, T): ‖w₁ − w₂‖². test_loss (R, seeds, T).
        stayed (R,): seeds whose neurons end with ‖w₁ − w₂‖² < 0.01; at large lr others leave for another minimum.
        exponent, exponent_error (R,): of ‖w₁ − w₂‖² a step, fitted to the second half of where it is resolved; a mean
        over the seeds that stayed, nan for fewer than four.
        exponent_theory, exponent_theory_error (R,): that of the invariant set: how a separation of 1e-6 grows or falls
        from there on, a mean over `reference_seeds`.

    Args:
        lrs: learning rates.
        sigmas: standard deviations of the label noise.
        lr: learning rate of the sweep over noise.
        sigma: noise of the sweep over learning rates.
        momentum: heavy-ball β.
        examples: N.
        activation: σ, by name.
        steps: how many states, the start included.
        seeds: of the noise.
        reference_seeds: of the noise, for the invariant set.
        seed: of the data, and where seeds of the noise begin.
        dtype: float64 or float32.
        threads: at once (all cores if None); results do not depend on it.
        tell: hears of progress.

    Raises:
        InputError: a parameter is out of its range; the message gives the bound.
    """
    kind = checks.precision(dtype)
    checks.noise("sigmas", (*sigmas, sigma))
    checks.at_least("steps", steps, 1000)
    checks.at_least("seeds", min(seeds, reference_seeds), 2)
    if not 0 <= momentum < 1:
        raise InputError(f"momentum must lie in [0, 1), got {momentum}.")
    x, x_test, y, y_test = data(seed, examples)
    units = Units(x.to(kind), y.to(kind), 2, activation)
    test = Units(x_test.to(kind), y_test.to(kind), 2, activation)
    bound = stable_rate(Units(x, y, 2, activation), momentum)
    for rate in (*lrs, lr):
        checks.time_step("lr", rate, bound, "(2 + 2 momentum) over the sharpness of the noiseless minimum")
    rates = torch.tensor([*lrs, *[lr] * len(sigmas)], dtype=kind)[:, None, None]
    noises = torch.tensor([*[sigma] * len(lrs), *sigmas], dtype=kind)[:, None, None]
    grid = np.unique(np.linspace(0, steps - 1, min(steps, 2001)).astype(int))

    def descend(first: Tensor, streams: Sequence[int], share: float) -> Tensor:
        """Return w at the steps of `grid` (T, R, seeds, 4)."""
        w = first.to(kind).expand(len(rates), len(streams), 4).clone()
        velocity, kept, wanted = torch.zeros_like(w), [w.clone()], set(grid.tolist())
        draws = [Normals(seed, "two-neurons/noise", index, kind) for index in streams]
        xi = torch.empty(0)
        for step in range(steps - 1):
            if step % BLOCK == 0:
                xi = torch.stack([draw.draw((BLOCK, examples)) for draw in draws], dim=1)
                tell(share * BLOCK / steps)
            velocity.mul_(momentum).add_(units.gradient(w, noises * xi[step % BLOCK]))
            w -= rates * velocity
            if step + 1 in wanted:
                kept.append(w.clone())
        return torch.stack(kept)

    start = torch.tensor(START, dtype=torch.float64)
    middle = start.view(2, 2).mean(1).repeat_interleave(2)
    near = middle + APART * torch.tensor([0.5, -0.5, 0.5, -0.5], dtype=torch.float64)
    beyond = range(seeds, seeds + reference_seeds)  # other noise than that of the runs
    whole, reference = spread(
        lambda task: descend(*task), [(start, range(seeds), 0.5), (near, beyond, 0.5)], threads
    )
    if not bool(torch.isfinite(whole).all()):
        raise InputError(
            f"a run diverged: lower lr (got {max(*lrs, lr):g}) or sigma (got {max(*sigmas, sigma):g})."
        )
    distance, apart = (separation(w).movedim(0, -1).double().numpy() for w in (whole, reference))
    fitted = np.array([[fit(grid, one) for one in row] for row in distance])
    expected = np.array([[fit(grid, one) for one in row] for row in apart])
    stayed = distance[..., -1] < NEAR
    pairs = [mean_and_error(row[kept]) if kept.sum() >= FEWEST else (math.nan, math.nan)
             for row, kept in zip(fitted, stayed, strict=True)]  # fmt: skip
    exponent, exponent_error = np.array(pairs, dtype=float).T
    theory, theory_error = mean_and_error(expected)
    arrays = {
        "lr": rates.flatten().double().numpy(),
        "sigma": noises.flatten().double().numpy(),
        "step": grid.astype(float),
        "distance": distance,
        "stayed": stayed.sum(-1).astype(float),
        "test_loss": test.value(whole).movedim(0, -1).double().numpy(),
        "exponent": exponent,
        "exponent_error": exponent_error,
        "exponent_theory": theory,
        "exponent_theory_error": theory_error,
    }
    parameters = {
        "lrs": list(lrs),
        "sigmas": list(sigmas),
        "lr": lr,
        "sigma": sigma,
        "momentum": momentum,
        "examples": examples,
        "activation": activation,
        "steps": steps,
        "seeds": seeds,
        "reference_seeds": reference_seeds,
        "seed": seed,
        "dtype": dtype,
    }
    return Outcome("two-neurons", parameters, arrays, verdict(arrays))


def separation(w: Tensor) -> Tensor:
    """Return ‖w₁ − w₂‖² = (u₁ − u₂)² + (v₁ − v₂)²: (…, 4) to (…)."""
    return (w[..., 0] - w[..., 1]).square() + (w[..., 2] - w[..., 3]).square()


def stable_rate(units: Units, momentum: float) -> float:
    """Return (2 + 2β)/S, S the sharpness where noiseless descent from the start comes to rest."""
    w = torch.tensor(START, dtype=torch.float64)
    for _ in range(3000):
        w = w - 0.1 * units.gradient(w)
    hessian = units.hessian(w)
    return (2 + 2 * momentum) / float(torch.linalg.eigvalsh(hessian)[-1])


def fit(step: Array, distance: Array) -> float:
    """Return the slope of log(distance) over the second half of the steps at which it is resolved."""
    lost = np.flatnonzero(distance < RESOLVED)
    last = int(lost[0]) if len(lost) else len(step)
    half = slice(last // 2, last)
    if last < 8:
        return math.nan
    slope, _ = np.polyfit(step[half], np.log(distance[half]), 1)
    return float(slope)


def verdict(arrays: dict[str, Array]) -> list[Check]:
    """Return the exponents of the runs beside those of the invariant set."""
    found = []
    for i, (lr, sigma) in enumerate(zip(arrays["lr"], arrays["sigma"], strict=True)):
        error = math.hypot(arrays["exponent_error"][i], arrays["exponent_theory_error"][i])
        if sigma > 0 and math.isfinite(error):
            measured, predicted = float(arrays["exponent"][i]), float(arrays["exponent_theory"][i])
            found.append(
                Check(
                    f"exponent a step at lr={lr:g}, sigma={sigma:g}",
                    measured,
                    predicted,
                    error,
                    note="prediction: the exponent of the invariant set, from other noise",
                )
            )
    return found
