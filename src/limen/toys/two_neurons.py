"""Two neurons that label noise makes one (Chen et al. 2023, section 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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

RESOLVED = 450.0
"""|w₁ − w₂| above so many units of rounding is resolved; weights are of order 1."""

NEAR = 0.01
"""‖w₁ − w₂‖² at the end above this: the neurons have gone different ways, to another minimum."""

FEWEST = 4
"""Seeds that must have stayed for an exponent to be fitted and judged."""

SPAN = 0.6
"""An exponent is fitted until theory has ‖w₁ − w₂‖² fall by this share of the logarithm of what is resolved."""

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
    reference_seeds: int = 128,
    seed: int = 0,
    data_seed: int = 0,
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
        exponent, exponent_error (R,): of ‖w₁ − w₂‖² a step, fitted between the steps window (R, 2), which theory sets;
        a mean over the seeds that stayed, nan for fewer than four.
        exponent_theory, exponent_theory_error, exponent_scatter (R,): twice the Lyapunov exponent across the invariant
        set over the same steps: two equal neurons are trained under other noise, and the equation linearised about
        them carries a separation along (`across`); mean, its error and the scatter of one seed.

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
        seed: of the noise.
        data_seed: of the data.
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
    x, x_test, y, y_test = data(data_seed, examples)
    units = Units(x.to(kind), y.to(kind), 2, activation)
    test = Units(x_test.to(kind), y_test.to(kind), 2, activation)
    bound = stable_rate(Units(x, y, 2, activation), momentum)
    for rate in (*lrs, lr):
        checks.time_step(
            "lr", rate, bound, "(2 + 2 momentum) over the sharpness at the start; noise lowers it"
        )
    rates = torch.tensor([*lrs, *[lr] * len(sigmas)], dtype=kind)[:, None, None]
    noises = torch.tensor([*[sigma] * len(lrs), *sigmas], dtype=kind)[:, None, None]
    grid = np.unique(np.linspace(0, steps - 1, min(steps, 2001)).astype(int))

    def descend() -> Tensor:
        """Return w at the steps of `grid` (T, R, seeds, 4)."""
        w = torch.tensor(START, dtype=kind).expand(len(rates), seeds, 4).clone()
        velocity, kept, wanted = torch.zeros_like(w), [w.clone()], set(grid.tolist())
        draws = [Normals(seed, "two-neurons/noise", index, kind) for index in range(seeds)]
        xi = torch.empty(0)
        for step in range(steps - 1):
            if step % BLOCK == 0:
                xi = torch.stack([draw.draw((BLOCK, examples)) for draw in draws], dim=1)
                tell(0.5 * BLOCK / steps)
            velocity.mul_(momentum).add_(units.gradient(w, noises * xi[step % BLOCK]))
            w -= rates * velocity
            if step + 1 in wanted:
                kept.append(w.clone())
        return torch.stack(kept)

    def linearised() -> Tensor:
        """Return the logarithm of a separation's square at the steps of `grid` (R, reference seeds, T)."""
        return across(
            Units(x, y, 2, activation),
            rates.double()[..., 0],
            noises.double()[..., 0],
            momentum,
            grid,
            [Normals(seed, "two-neurons/reference", index) for index in range(reference_seeds)],
            lambda share: tell(0.5 * share),
        )

    whole, growth = spread(lambda task: task(), [descend, linearised], threads)
    if not bool(torch.isfinite(whole).all()):
        raise InputError(
            f"a run diverged: lower lr (got {max(*lrs, lr):g}) or sigma (got {max(*sigmas, sigma):g})."
        )
    distance = separation(whole).movedim(0, -1).double().numpy()
    resolved = (RESOLVED * torch.finfo(kind).eps) ** 2
    stayed = distance[..., -1] < NEAR
    rows = [measure(grid, *row, resolved) for row in zip(distance, stayed, growth.numpy(), strict=True)]
    found = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    arrays = {
        "lr": rates.flatten().double().numpy(),
        "sigma": noises.flatten().double().numpy(),
        "step": grid.astype(float),
        "distance": distance,
        "stayed": stayed.sum(-1).astype(float),
        "test_loss": test.value(whole).movedim(0, -1).double().numpy(),
        **found,
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
        "data_seed": data_seed,
        "dtype": dtype,
    }
    return Outcome("two-neurons", parameters, arrays, verdict(arrays, seeds))


def separation(w: Tensor) -> Tensor:
    """Return ‖w₁ − w₂‖² = (u₁ − u₂)² + (v₁ − v₂)²: (…, 4) to (…)."""
    return (w[..., 0] - w[..., 1]).square() + (w[..., 2] - w[..., 3]).square()


def stable_rate(units: Units, momentum: float) -> float:
    """Return (2 + 2β)/S, S the sharpness at the start: at most so much holds, and noise takes from it."""
    hessian = units.hessian(torch.tensor(START, dtype=torch.float64))
    return (2 + 2 * momentum) / float(torch.linalg.eigvalsh(hessian)[-1])


def across(
    units: Units,
    rates: Tensor,
    noises: Tensor,
    momentum: float,
    grid: Array,
    streams: Sequence[Normals],
    tell: Tell = silent,
) -> Tensor:
    """Return log ‖δ‖² (R, seeds, T) of an infinitesimal separation δ = w₁ − w₂ of two equal neurons under label noise.

    Both neurons are (a, b) and stay equal: a, b descend f(x) = 2bσ(ax) with the gradients b⟨σ'xe⟩ and ⟨σe⟩, e = f − y −
    sigma ξ. To first order δ changes neither f nor e, and descends, with a momentum of its own, the quadratic form of

        M = [[b⟨σ''x²e⟩, ⟨σ'xe⟩], [⟨σ'xe⟩, 0]],

    all taken at ax. δ is rescaled at every step; the slope of the result is twice the largest Lyapunov exponent.

    Args:
        units: the regression.
        rates: (R, 1).
        noises: (R, 1).
        momentum: β.
        grid: steps to return, beginning with 0.
        streams: of the noise, one a seed.
        tell: hears of progress.
    """
    x, y, sigma = units.inputs, units.targets, units.sigma
    a, b = (
        torch.full((len(rates), len(streams)), sum(pair) / 2, dtype=x.dtype)
        for pair in (START[:2], START[2:])
    )
    da, db = torch.full_like(a, START[0] - START[1]), torch.full_like(b, START[2] - START[3])
    pa, pb, pda, pdb = (torch.zeros_like(a) for _ in range(4))
    log, kept, wanted = torch.zeros_like(a), [], set(grid.tolist())
    last, xi = int(grid[-1]), torch.empty(0)
    for step in range(last + 1):
        if step in wanted:
            kept.append(log + torch.log(da.square() + db.square()))
        if step == last:
            break
        if step % BLOCK == 0:
            xi = torch.stack([stream.draw((BLOCK, len(x))) for stream in streams], dim=1)
            tell(BLOCK / last)
        with torch.enable_grad():
            z = (a[..., None] * x).requires_grad_()
            slope = sigma.slope(z)
            (curve,) = torch.autograd.grad(slope.sum(), z)
        z, slope = z.detach(), slope.detach()
        value = sigma.value(z)
        e = (2 * b[..., None] * value - y - noises[..., None] * xi[step % BLOCK]) / len(x)
        first, second = (slope * x * e).sum(-1), (curve * x.square() * e).sum(-1)
        pa, pb = momentum * pa + b * first, momentum * pb + (value * e).sum(-1)
        pda, pdb = momentum * pda + b * second * da + first * db, momentum * pdb + first * da
        a, b, da, db = a - rates * pa, b - rates * pb, da - rates * pda, db - rates * pdb
        size = (da.square() + db.square()).sqrt()
        da, db, pda, pdb = (one / size for one in (da, db, pda, pdb))
        log = log + 2 * size.log()
    return torch.stack(kept, dim=-1)


def measure(
    step: Array, distance: Array, stayed: NDArray[np.bool_], growth: Array, resolved: float
) -> dict[str, Any]:
    """Return the exponent of one run (seeds, T) and that of the linearised equation (reference seeds, T).

    Both are slopes of the logarithm over the second half of the steps that the linearised mean takes to fall by `SPAN`
    of what is resolved: the runs themselves, which would be stopped where they happen to be fast, have no part in it.
    """
    mean = growth.mean(0)
    fallen = np.flatnonzero(mean - mean[0] < SPAN * math.log(resolved))
    last = int(fallen[0]) if len(fallen) else len(step) - 1
    half = slice(last // 2, last + 1)
    slopes = fit(step[half], growth[:, half])
    theory, error = mean_and_error(slopes)
    clear = stayed & (distance[:, half] > resolved).all(1)
    measured = fit(step[half], np.log(distance[clear][:, half]))
    scatter = float(slopes.std(ddof=1))
    enough = int(clear.sum()) >= FEWEST
    return {
        "exponent": measured.mean() if enough else math.nan,
        "exponent_error": scatter / math.sqrt(len(measured)) if enough else math.nan,
        "exponent_theory": theory,
        "exponent_theory_error": error,
        "exponent_scatter": scatter,
        "window": np.array([step[half.start], step[last]], dtype=float),
    }


def fit(step: Array, logs: Array) -> Array:
    """Return the least-squares slope of each row of `logs` (S, T) against `step` (T,)."""
    centred = step - step.mean()
    slopes: Array = logs @ centred / float(centred @ centred)
    return slopes


def verdict(arrays: dict[str, Array], seeds: int) -> list[Check]:
    """Return the exponents of the runs beside that of the linearised equation."""
    found: dict[str, Check] = {}
    for i, (lr, sigma) in enumerate(zip(arrays["lr"], arrays["sigma"], strict=True)):
        if sigma == 0:
            continue
        stayed = f"{arrays['stayed'][i]:.0f} of {seeds} seeds stayed"
        name = f"exponent a step at lr={lr:g}, sigma={sigma:g} ({stayed})"
        if math.isnan(arrays["exponent"][i]):
            found[name] = Check.skip(
                name, f"{stayed}, the others left for another minimum; {FEWEST} are needed"
            )
            continue
        found[name] = Check(
            name,
            float(arrays["exponent"][i]),
            float(arrays["exponent_theory"][i]),
            math.hypot(arrays["exponent_error"][i], arrays["exponent_theory_error"][i]),
            note="prediction: the Lyapunov exponent across the invariant set, linearised, from other noise",
        )
    return list(found.values())
