"""Quadratic regression and self-stabilisation: the edge of stability in two weights.

Agarwala, Pedregosa, Pennington 2022 (quadratic regression); Damian, Nichani, Lee 2023 (self-stabilisation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from limen.dynamics.gd import GD
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
    threads: int | None = None,
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
        threads: not used; here for all systems to be called alike.
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
    found = []
    for index, epsilon in enumerate(asymmetries):
        found.append(_regress(epsilon, starts, spread, steps, seed, index, kind))
        tell(1 / len(asymmetries))
    final, edge, sharpness, residual, error = zip(*found, strict=True)
    x, y = _valley(lr, drift, kicks, valley_steps, kind)
    small = 2 * math.pi / (lr * math.sqrt(2 * drift))
    cycles = [_cycles(row) for row in y]
    means = [_mean_over(cycle, lr / 2 * row + 1) for cycle, row in zip(cycles, y, strict=True)]
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
            1e6 * rounding,
            f"rounding over {FOLLOWED} steps",
        ),
    ]
    step = lr * math.sqrt(2 * drift)  # phase of the small oscillations in one step
    names = ("kick", "mean_sharpness", "mean_square", "period", "energy_gain", "energy_gain_theory")
    for kick, sharp, square, period, gain, gain_theory in zip(*(arrays[name] for name in names), strict=True):
        if not math.isfinite(period):
            continue  # not one whole cycle
        # how far whole cycles of whole steps, which grow, are from closed ones
        open_end = 5 * step * (1 + kick) ** 2
        where = f"kick {kick:g}"
        found.append(Check(f"mean sharpness over 2/lr, {where}", sharp, 1.0, 0.0, open_end * step))
        found.append(Check(f"mean x^2 over 2 alpha, {where}", square, 1.0, 0.0, open_end))
        found.append(Check(f"growth of H, {where}", gain, gain_theory, 0.0, open_end * gain_theory))
        if kick <= 0.1:
            found.append(Check(f"period over 2 pi/(lr sqrt(2 alpha)), {where}", period, 1.0, 0.0, open_end))
    for epsilon, final, edge in zip(arrays["asymmetry"], arrays["final"], arrays["edge"], strict=True):
        if edge.sum() > 0:
            top = float(np.nanmax(final))
            found.append(
                Check(f"largest sharpness at rest, eps={epsilon:g}, at most 2", top, 1.0, 0.0, 1 + 1e-4)
            )
    return found
