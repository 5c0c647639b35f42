"""Quadratic regression and self-stabilisation: the edge of stability in two weights.

Agarwala, Pedregosa, Pennington 2022 (quadratic regression); Damian, Nichani, Lee 2023 (self-stabilisation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limen.dynamics.gd import GD
from limen.errors import InputError
from limen.objectives.edge import QuadraticRegression, SharpeningValley
from limen.toys import checks
from limen.toys.brownian import Array
from limen.toys.normals import Normals
from limen.toys.outcome import Check, Outcome
from limen.toys.parallel import Tell, silent
from limen.types import State

FOLLOWED = 20
"""Steps over which descent is compared with its closed recursion."""

AT_REST = 1e-8
"""|z| below this at the end: descent has converged."""


def run(
    *,
    asymmetries: Sequence[float] = (1.0, 0.3, 0.1, 0.03, 0.01),
    starts: int = 1000,
    spread: float = 1.0,
    steps: int = 5_000,
    lr: float = 0.01,
    drift: float = 0.5,
    kicks: Sequence[float] = (0.05, 0.3, 1.0),
    valley_steps: int = 3000,
    seed: int = 0,
    dtype: str = "float64",
    tell: Tell = silent,
) -> Outcome:
    """Descend on ½z², z quadratic in two weights of curvatures 1 and −ε, and in a valley that sharpens.

    Quadratic regression is run at η = 1, to which any other is scaled; z₀ and J₀ are drawn. Where descent converges
    it comes to rest at a sharpness ‖J‖² of at most 2/η = 2; those that have been above 2 on the way end close below.
    In the valley L = (2/η + y)x²/2 − αy the sharpness rises until oscillations of x bring it down again: means over
    whole cycles are 2/η for the sharpness and α for x²/2, small oscillations about x² = 2α have the period 2π/(η√(2α))
    in steps, and H = y²/2 + x²/4 − α log|x| is conserved to first order in η: a step adds
    η²((α − x²/2)²/2 + y²(x²/4 + α/2)), which makes the oscillations grow in the end.

    The arrays, E asymmetries ε and K kicks:
        asymmetry (E,). final (E, starts): sharpness at rest, nan where none was reached. edge (E, starts): 1 where the
        sharpness ever exceeded 2. sharpness, residual (E, T): of one start that went through the edge.
        recursion_error (E,): of z and J over 20 steps against the closed recursion.
        kick (K,). valley_x, valley_y (K, steps + 1). mean_sharpness, mean_square, period (K,): in units of 2/η, α and
        the period of small oscillations. energy_gain, energy_gain_theory (K,): of H over the run.

    Args:
        asymmetries: ε, positive.
        starts: how many for each.
        spread: standard deviation of z₀ and of J₀.
        steps: of descent on the regression.
        lr: η in the valley.
        drift: α, how fast the sharpness rises.
        kicks: starts log(x/√(2α)) in the valley, at y = 0.
        valley_steps: of descent there.
        seed: of all draws.
        dtype: float64 or float32.
        tell: hears of progress.

    Raises:
        InputError: a parameter is out of its range; the message gives the bound.
    """
    kind = checks.precision(dtype)
    for epsilon in asymmetries:
        checks.positive("asymmetries", epsilon)
    checks.positive("drift", drift)
    checks.positive("spread", spread)
    checks.time_step(
        "lr", lr, 1 / math.sqrt(2 * drift), "1/sqrt(2 drift), beyond which oscillations are not slow"
    )
    checks.at_least("steps", steps, FOLLOWED)
    checks.at_least("starts", starts, 1)
    checks.at_least("valley_steps", valley_steps, 1)
    if not asymmetries or not kicks:
        raise InputError("asymmetries, kicks: expected at least one value each, got none.")
    for kick in kicks:
        checks.positive("kicks", kick)
    found = []
    for index, epsilon in enumerate(asymmetries):
        found.append(_regress(epsilon, starts, spread, steps, seed, index, kind))
        tell(1 / len(asymmetries))
    final, edge, sharpness, residual, error = zip(*found, strict=True)
    x, y = _valley(lr, drift, kicks, valley_steps, kind)
    small = 2 * math.pi / (lr * math.sqrt(2 * drift))
    cycles = [_cycles(row) for row in y]
    means = [_mean_over(cycle, lr / 2 * row + 1) for cycle, row in zip(cycles, y, strict=True)]
    with np.errstate(over="ignore", invalid="ignore"):  # where oscillations grow without bound
        squares = [_mean_over(cycle, row**2 / (2 * drift)) for cycle, row in zip(cycles, x, strict=True)]
        gains = [_gain(row_x, row_y, lr, drift) for row_x, row_y in zip(x, y, strict=True)]
    arrays = {
        "asymmetry": np.asarray(asymmetries, dtype=float),
        "final": np.stack(final),
        "edge": np.stack(edge),
        "sharpness": np.stack(sharpness),
        "residual": np.stack(residual),
        "recursion_error": np.array(error),
        "kick": np.asarray(kicks, dtype=float),
        "valley_x": x,
        "valley_y": y,
        "mean_sharpness": np.array(means),
        "mean_square": np.array(squares),
        "energy_gain": np.array(gains)[:, 0],
        "energy_gain_theory": np.array(gains)[:, 1],
        "period": np.array(
            [np.diff(cycle).mean() / small if len(cycle) > 1 else math.nan for cycle in cycles]
        ),
    }
    parameters = {
        "asymmetries": list(asymmetries),
        "starts": starts,
        "spread": spread,
        "steps": steps,
        "lr": lr,
        "drift": drift,
        "kicks": list(kicks),
        "valley_steps": valley_steps,
        "seed": seed,
        "dtype": dtype,
    }
    return Outcome("quadratic", parameters, arrays, verdict(lr, drift, float(torch.finfo(kind).eps), arrays))


def recursion(z: Tensor, jacobian: Tensor, curvatures: Tensor, lr: float) -> tuple[Tensor, Tensor]:
    """Return z⁺ = z − ηz‖J‖² + η²z² JᵀQJ/2 and J⁺ = (1 − ηzQ)J."""
    bend = (curvatures * jacobian.square()).sum(-1)
    after = z - lr * z * jacobian.square().sum(-1) + 0.5 * (lr * z).square() * bend
    return after, (1 - lr * z[..., None] * curvatures) * jacobian


def _regress(
    epsilon: float, starts: int, spread: float, steps: int, seed: int, index: int, kind: torch.dtype
) -> tuple[Array, Array, Array, Array, float]:
    """Return final sharpness, whether the edge was met, sharpness and residual of one start, and the error."""
    draw = spread * Normals(seed, "quadratic/start", index).draw((starts, 3)).to(kind)
    curvatures = torch.tensor([1.0, -epsilon], dtype=kind)
    landscape = QuadraticRegression(curvatures, draw[:, 0], draw[:, 1:])
    rule = GD(1.0)
    w = torch.zeros(starts, 2, dtype=kind)
    state = rule.init(landscape, w)
    z, jacobian = draw[:, 0].clone(), draw[:, 1:].clone()
    error, tame = torch.zeros((), dtype=kind), torch.ones(starts, dtype=torch.bool)
    for _ in range(FOLLOWED):
        state, _ = rule.step(landscape.at(state), state)
        z, jacobian = recursion(z, jacobian, curvatures, 1.0)
        size = 1 + z.abs() + jacobian.square().sum(-1)
        apart = (landscape.predict(state.w) - z).abs() + (landscape.jacobian(state.w) - jacobian).abs().sum(
            -1
        )
        tame &= size < TAME
        error = torch.maximum(error, (apart / size)[tame].amax())
    # from here on by the recursion, which is descent: it keeps small residuals that sums of weights would round
    z, jacobian = draw[:, 0].clone(), draw[:, 1:].clone()
    edge = torch.zeros(starts, dtype=torch.bool)
    sharpness, residual = [], []
    for step in range(steps):
        tops = jacobian.square().sum(-1)
        edge |= (tops > 2) & (z.abs() > AT_REST)
        if step < SHOWN:
            sharpness.append(tops)
            residual.append(z)
        if step % 100 == 0 and not bool(((z.abs() > AT_REST) & (z.abs() < LARGE)).any()):
            break
        z, jacobian = recursion(z, jacobian, curvatures, 1.0)
    rest = (z.abs() < AT_REST) & torch.isfinite(tops)
    final = torch.where(rest, jacobian.square().sum(-1), torch.nan).double().numpy()
    edge &= rest
    seen = torch.stack(sharpness, -1)
    seen = torch.cat([seen, seen[:, -1:].expand(-1, SHOWN - seen.shape[1])], -1)
    left = torch.stack(residual, -1)
    left = torch.cat([left, left[:, -1:].expand(-1, SHOWN - left.shape[1])], -1)
    pick = int(torch.nonzero(edge)[0]) if bool(edge.any()) else 0
    return (
        final,
        edge.double().numpy(),
        seen[pick].double().numpy(),
        left[pick].double().numpy(),
        float(error),
    )


LARGE = 1e6
"""|z| beyond this: descent diverges."""

TAME = 5.0
"""1 + |z| + ‖J‖² up to which rounding is not amplified beyond measure in so few steps."""

SHOWN = 400
"""Steps of the trajectories that are kept."""


def _valley(
    lr: float, drift: float, kicks: Sequence[float], steps: int, kind: torch.dtype
) -> tuple[Array, Array]:
    """Return x and y (K, steps + 1) of descent from y = 0, x = √(2α)e^kick."""
    landscape, rule = SharpeningValley(2 / lr, drift, kind), GD(lr)
    x = math.sqrt(2 * drift) * torch.tensor(list(kicks), dtype=kind).exp()
    state: State = rule.init(landscape, torch.stack([x, torch.zeros_like(x)], dim=-1))
    kept = [state.w]
    for _ in range(steps):
        state, _ = rule.step(landscape.at(state), state)
        kept.append(state.w)
    path = torch.stack(kept, dim=1).double().numpy()
    return path[..., 0], path[..., 1]


def _gain(x: Array, y: Array, lr: float, drift: float) -> tuple[float, float]:
    """Return by how much H = y²/2 + x²/4 − α log|x| grows, and by how much it should to second order in η."""
    energy = y**2 / 2 + x**2 / 4 - drift * np.log(np.abs(x))
    steps = lr**2 * ((drift - x**2 / 2) ** 2 / 2 + y**2 * (x**2 / 4 + drift / 2))
    return float(energy[-1] - energy[0]), float(steps[:-1].sum())


def _cycles(y: Array) -> Array:
    """Return the times, in steps, at which y rises through 0, by linear interpolation."""
    rises = np.flatnonzero((y[:-1] < 0) & (y[1:] >= 0))
    out: Array = rises + y[rises] / (y[rises] - y[rises + 1])
    return out


def _mean_over(cycles: Array, values: Array) -> float:
    """Return the mean over whole cycles."""
    if len(cycles) < 2:
        return math.nan
    return float(values[math.ceil(cycles[0]) : math.ceil(cycles[-1])].mean())


def verdict(lr: float, drift: float, rounding: float, arrays: dict[str, Array]) -> list[Check]:
    """Return what was measured beside the closed forms."""
    found = [
        Check(
            "worst error of the closed recursion",
            float(arrays["recursion_error"].max()),
            0.0,
            0.0,
            1e4 * rounding,
            f"rounding over {FOLLOWED} steps",
        ),
    ]
    for index in range(len(arrays["kick"])):
        row = {name: arrays[name][index] for name in VALLEY}
        found.extend(valley(lr, drift, rounding, row))
    for epsilon, final, edge in zip(arrays["asymmetry"], arrays["final"], arrays["edge"], strict=True):
        name = f"largest sharpness at rest, eps={epsilon:g}"
        if edge.sum() > 0:
            found.append(Check(name, float(final[np.isfinite(final)].max()), 2.0, 0.0, kind="at most"))
        else:
            found.append(Check.skip(name, "no start that went through the edge came to rest"))
    return found


VALLEY = (
    "kick",
    "valley_x",
    "valley_y",
    "mean_sharpness",
    "mean_square",
    "period",
    "energy_gain",
    "energy_gain_theory",
)
"""The arrays of the valley, by kick."""

SWING = 0.2
"""Amplitude of log|x| up to which oscillations are small."""


def valley(lr: float, drift: float, rounding: float, row: dict[str, Any]) -> list[Check]:
    """Return what one trajectory in the valley shows, each with what the orders left out may amount to.

    Over N steps of whole cycles Σ log|1 + ηy| is the change of log|x|, so the mean sharpness is 2/η times
    1 + ⟨η²y²⟩/4 + Δlog|x|/2N to second order, and Σ(α − x²/2) that of y/η, at most a step's α.
    The period of oscillations of amplitude a in log|x| is longer by a²/6, that of Euler's steps of phase φ = η√(2α)
    by φ²/3. H grows by −α(ηy)³/3 + α(ηy)⁴/4 − … a step beyond the second order.
    """
    x, y, period = row["valley_x"], row["valley_y"], float(row["period"])
    gain, gain_theory = float(row["energy_gain"]), float(row["energy_gain_theory"])
    where = f"kick {row['kick']:g}"
    names = [f"mean sharpness over 2/lr, {where}", f"mean x^2 over 2 alpha, {where}", f"growth of H, {where}"]
    if not (np.isfinite(x).all() and np.isfinite(y).all() and math.isfinite(gain)):
        return [Check.skip(name, "the oscillations grew without bound") for name in names]
    if not math.isfinite(period):
        return [Check.skip(name, "not one whole cycle") for name in names]
    times = _cycles(y)
    begin, end = math.ceil(times[0]), math.ceil(times[-1])
    count, tail = end - begin, rounding * len(y)
    bend = (lr * y[begin:end]) ** 2
    opened = math.log(abs(x[end] / x[begin])) / (2 * count)
    beyond = drift * float((np.abs(lr * y) ** 3 / 3 + (lr * y) ** 4 / 2).sum())
    found = [
        Check(
            names[0],
            float(row["mean_sharpness"]),
            1 + float(bend.mean()) / 4 + opened,
            0.0,
            float(np.abs(bend * lr * y[begin:end]).mean()) + tail,
            "to second order in lr, the cycles not being quite closed; the allowance is the third",
        ),
        Check(
            names[1], float(row["mean_square"]), 1.0, 0.0, 1 / count + tail, "the cycles are closed to a step"
        ),
    ]
    if beyond < 0.2 * gain_theory:
        rough = tail * (1 + float((y**2).max() + (x**2).max() + drift))
        note = "to second order in lr; the allowance is the third and the fourth"
        found.append(Check(names[2], gain, gain_theory, 0.0, beyond + rough, note))
    else:
        found.append(Check.skip(names[2], "higher orders of lr are as large as a fifth of it"))
    energy = y**2 / 2 + x**2 / 4 - drift * np.log(np.abs(x)) - drift / 2 * (1 - math.log(2 * drift))
    swing = math.sqrt(float(energy.max()) / drift)
    if swing < SWING:
        step = lr * math.sqrt(2 * drift)
        longer = float(energy.mean()) / drift / 6 + step**2 / 3
        name = f"period over 2 pi/(lr sqrt(2 alpha)), {where}"
        note = "to second order in the amplitude and in lr; the allowance is the third"
        found.append(Check(name, period, 1 + longer, 0.0, longer * (swing + step) + tail, note))
    return found
