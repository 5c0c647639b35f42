"""The quartic well with multiplicative noise: when the invariant point 0 attracts (Chen et al. 2023, section 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from limen.errors import InputError
from limen.objectives.quartic import Quartic
from limen.toys import checks
from limen.toys.brownian import Array, euler_exponent
from limen.toys.confined import beyond
from limen.toys.fits import line, pooled
from limen.toys.normals import Normals
from limen.toys.outcome import Check, Outcome, binomial_error, mean_and_error
from limen.toys.parallel import Tell, silent
from limen.toys.paths import follow

COLLAPSED = 1e-30
"""A path has collapsed where θ² is below this."""

DEPTH = -0.5 * math.log(COLLAPSED)
"""And −log|θ| above this."""

SPREAD = 2.0
"""Standard deviation of the starts."""

FARTHEST = 10.0
"""A start beyond this, five standard deviations, is not provided for by the bound on the time step."""

SMALL = 1e-60
"""Where exponents are measured from: no nonlinearity is left."""

EXPONENT_TIME = 5.0
"""Over which exponents are measured."""

KOLMOGOROV = 1.818
"""√n times the distance of Kolmogorov and Smirnov is above this in 0.27 % of the samples that fit."""


def run(
    *,
    mu: float = 1.5,
    zetas: Sequence[float] = tuple(np.linspace(0, 3, 100).tolist()),
    paths: int = 1000,
    dt: float = 0.0025,
    snapshots: Sequence[int] = (0, 10_000, 20_000, 40_000, 80_000),
    shown: Sequence[float] = (0.1, 1.0, 2.5),
    shown_paths: int = 50,
    shown_time: float = 25.0,
    stationary: Sequence[float] | None = None,
    stationary_paths: int = 4000,
    stationary_time: float | None = None,
    seed: int = 0,
    dtype: str = "float64",
    threads: int | None = None,
    tell: Tell = silent,
) -> Outcome:
    """Simulate dθ = −(θ³ − μθ) dt + ζθ dB from θ₀ = 2N(0, 1) and compare it with its theory; published defaults.

    The arrays, L levels ζ and S snapshots:
        zeta (L,), time (S,): of the sweep. fraction (S, L): collapsed, θ² < 1e-30; fraction_theory (S, L): of
        confined Brownian motion. exponent, exponent_error, exponent_theory, exponent_euler (L,): of log|θ| at 0,
        measured, μ − ζ²/2, and what it is for Euler's steps of length dt.
        shown_zeta, shown_time, shown_path (Z, T, paths): trajectories.
        stationary_zeta (K,), stationary_theta (K, paths): at the end of a run of their own. stationary_grid (G,),
        stationary_density (K, G): the density.

    Args:
        mu: −L''(0), positive.
        zetas: noise levels of the sweep.
        paths: trajectories a level.
        dt: time step.
        snapshots: steps at which collapsed paths are counted.
        shown: noise levels of the trajectories.
        shown_paths: how many a level.
        shown_time: how long.
        stationary: noise levels, below √(2μ), of the stationary histogram (0.5, 1 and 1.5 times √(μ/1.5) if None).
        stationary_paths: trajectories a level.
        stationary_time: how long before it is taken (75/μ if None).
        seed: of all draws.
        dtype: float64 or float32; exponents are always measured in float64.
        threads: at once (all cores if None); results do not depend on it.
        tell: hears of progress.

    Raises:
        InputError: a parameter is out of its range; the message gives the bound.
    """
    kind = checks.precision(dtype)
    checks.positive("mu", mu)
    if stationary is None:
        stationary = [zeta * math.sqrt(mu / 1.5) for zeta in (0.5, 1.0, 1.5)]
    stationary_time = 75 / mu if stationary_time is None else stationary_time
    for name, values in (("zetas", zetas), ("shown", shown), ("stationary", stationary)):
        checks.noise(name, values)
    checks.time_step(
        "dt", dt, stable_step(mu), "where Euler's steps from |θ| = 10 grow or the wells' own steps overshoot"
    )
    for name, count in (
        ("paths", paths),
        ("stationary_paths", stationary_paths),
        ("shown_paths", shown_paths),
    ):
        checks.at_least(name, count, 2)
    for name, duration in (("stationary_time", stationary_time), ("shown_time", shown_time)):
        checks.positive(name, duration)
        checks.at_least(f"{name}/dt", round(duration / dt), 1)
    checks.counts("snapshots", snapshots)
    threshold = math.sqrt(2 * mu)
    if max(stationary) >= threshold or min(stationary) == 0:
        raise InputError(
            f"stationary: there is a stationary density for 0 < zeta < sqrt(2 mu) = {threshold:.6g}, got {stationary}."
        )
    snapshots = sorted(set(snapshots))

    def simulate(
        levels: Sequence[float], count: int, at: Sequence[int], name: str, share: float, begin: float = SPREAD
    ) -> Array:
        exact = begin != SPREAD
        kept = torch.float64 if exact else kind

        def start(level: int) -> Tensor:
            draw = Normals(seed, f"quartic/{name}/start", level).draw((count, 1))
            return torch.full_like(draw, begin) if exact else SPREAD * draw

        states = follow(
            lambda zeta: Quartic(mu, zeta, kept),
            torch.tensor(levels, dtype=kept),
            start,
            dt,
            at,
            seed=seed,
            name=f"quartic/{name}",
            threads=threads,
            tell=lambda fraction: tell(share * fraction),
        )[..., 0]
        if not bool(torch.isfinite(states).all()):
            raise InputError(f"a trajectory left every bound at dt = {dt:g}: lower dt, or the noise.")
        out: Array = states.double().numpy()
        return out

    work = len(zetas) * paths * max(snapshots)
    short = len(zetas) * paths * round(EXPONENT_TIME / dt)
    long = len(stationary) * stationary_paths * round(stationary_time / dt)
    everything = work + short + long
    swept = simulate(zetas, paths, snapshots, "sweep", work / everything)
    near = simulate(zetas, paths, [round(EXPONENT_TIME / dt)], "exponent", short / everything, SMALL)[0]
    settled = simulate(
        stationary, stationary_paths, [round(stationary_time / dt)], "stationary", long / everything
    )[0]
    grid = np.unique(np.linspace(0, round(shown_time / dt), 1001).astype(int))
    drawn = simulate(shown, shown_paths, grid.tolist(), "shown", 0.0)

    zeta, times = np.asarray(zetas, dtype=float), dt * np.asarray(snapshots, dtype=float)
    slopes = np.log(np.abs(near) / SMALL) / (dt * round(EXPONENT_TIME / dt))
    exponent, exponent_error = mean_and_error(slopes)
    euler = np.array([euler_exponent(mu, z, dt) for z in zeta])
    across = (
        3 * math.sqrt(mu / 1.5) * np.linspace(-1, 1, 1000)
    )  # not through 0, where the density may be infinite
    starts = [
        SPREAD * Normals(seed, "quartic/sweep/start", i).draw((paths, 1)).numpy()[:, 0]
        for i in range(len(zeta))
    ]
    arrays = {
        "zeta": zeta,
        "time": times,
        "fraction": (swept**2 < COLLAPSED).mean(-1),
        "fraction_theory": np.stack(
            [
                beyond(DEPTH, times.tolist(), mean, square, np.log(np.abs(begin))).mean(-1)
                for (mean, square), begin in zip(euler, starts, strict=True)
            ],
            axis=1,
        ),
        "exponent": exponent,
        "exponent_error": exponent_error,
        "exponent_theory": mu - zeta**2 / 2,
        "exponent_euler": euler[:, 0],
        "shown_zeta": np.asarray(shown, dtype=float),
        "shown_time": dt * grid,
        "shown_path": drawn.transpose(1, 0, 2),
        "stationary_zeta": np.asarray(stationary, dtype=float),
        "stationary_theta": settled,
        "stationary_grid": across,
        "stationary_density": np.stack([density(across, mu, z) for z in stationary]),
    }
    parameters = {
        "mu": mu,
        "zetas": zeta.tolist(),
        "threshold": threshold,
        "paths": paths,
        "dt": dt,
        "snapshots": list(snapshots),
        "shown_paths": shown_paths,
        "stationary": list(stationary),
        "stationary_paths": stationary_paths,
        "stationary_time": stationary_time,
        "seed": seed,
        "dtype": dtype,
    }
    return Outcome("quartic", parameters, arrays, verdict(mu, dt, paths, arrays))


def stable_step(mu: float) -> float:
    """Return the bound on dt: 1/μ at the wells, where L'' = 2μ; 2/(100 − μ) at |θ| = 10, the farthest start."""
    return min(1 / mu, 2 / max(FARTHEST**2 - mu, mu))


def density(theta: Array, mu: float, zeta: float) -> Array:
    """Return the stationary density ∝ |θ|^{2μ/ζ² − 2} e^{−θ²/ζ²}: θ² has a Gamma law of shape μ/ζ² − ½, scale ζ²."""
    shape = mu / zeta**2 - 0.5
    square = theta**2 / zeta**2
    logs = (2 * shape - 1) * np.log(np.abs(theta) / zeta) - square - math.lgamma(shape) - math.log(zeta)
    out: Array = np.exp(logs)
    return out


def second_moment(mu: float, zeta: float, dt: float = 0.0) -> float:
    """Return E[θ²]: μ − ζ²/2, and for Euler's steps less dt·E[m²/2 − ζ²m + 3ζ⁴/4], m = μ − θ², to first order.

    The correction follows from E[log|1 + dt·m + √dt ζξ|] = 0 in the stationary state, expanded in dt.
    """
    exact = mu - zeta**2 / 2
    mean, square = zeta**2 / 2, zeta**4 / 4 + zeta**2 * exact
    return exact - dt * (square / 2 - zeta**2 * mean + 0.75 * zeta**4)


def verdict(mu: float, dt: float, paths: int, arrays: dict[str, Array]) -> list[Check]:
    """Return what was measured beside what theory says."""
    found = [
        Check(f"exponent at zeta={z:.4g}", m, p, e, 1e-9, "prediction for Euler's steps of length dt")
        for z, m, p, e in zip(
            arrays["zeta"],
            arrays["exponent"],
            arrays["exponent_euler"],
            arrays["exponent_error"],
            strict=True,
        )
    ]
    found.extend(together(mu, arrays))
    for z, theta in zip(arrays["stationary_zeta"], arrays["stationary_theta"], strict=True):
        mean, error = mean_and_error(theta**2)
        expected = second_moment(mu, z, dt)
        name = f"E[theta^2] at zeta={z:.4g}"
        found.append(Check(name, float(mean), expected, float(error), note="prediction to first order in dt"))
        ranked = np.sort(theta**2)
        below = cumulated(ranked, mu, z)
        ranks = np.arange(len(theta) + 1) / len(theta)
        distance = max(np.max(ranks[1:] - below), np.max(below - ranks[:-1]))
        unit = KOLMOGOROV / 3 / math.sqrt(len(theta))
        shift = np.abs(below - cumulated(ranked * second_moment(mu, z) / expected, mu, z)).max()
        found.append(
            Check(
                f"distance of the histogram from the density at zeta={z:.4g}",
                float(distance),
                0.0,
                unit,
                float(shift),
                "Kolmogorov-Smirnov; three errors are its 99.73 % point; the allowance is the density's, scaled to "
                "the second moment of steps of length dt",
                kind="at most",
            )
        )
    for t, row, theory in zip(arrays["time"], arrays["fraction"], arrays["fraction_theory"], strict=True):
        if t > 0:
            found.extend(collapsed(float(t), paths, arrays["zeta"], row, theory))
    return found


def cumulated(square: Array, mu: float, zeta: float) -> Array:
    """Return P(θ² < square) in the stationary state."""
    shape = torch.tensor(mu / zeta**2 - 0.5, dtype=torch.float64)
    scaled = torch.from_numpy(square / zeta**2)
    out: Array = torch.special.gammainc(shape.expand(len(scaled)), scaled).numpy()
    return out


def together(mu: float, arrays: dict[str, Array]) -> list[Check]:
    """Return what the exponents say together: their χ², and μ and ½ as a line in ζ² through them has them."""
    drawn = (arrays["zeta"] > 0) & (arrays["exponent_error"] > 0)
    zeta, error = arrays["zeta"][drawn], arrays["exponent_error"][drawn]
    gap = arrays["exponent"][drawn] - arrays["exponent_euler"][drawn]
    found = [pooled("the exponents together", gap / error)]
    names = ("mu, from the exponents", "weight of zeta^2 in the exponents")
    if len(np.unique(zeta)) < 3:
        return [*found, *[Check.skip(name, "fewer than three noise levels above 0") for name in names]]
    at, covariance = line(zeta**2, gap, error)
    for name, value, off, variance in zip(names, (mu, -0.5), at, np.diag(covariance), strict=True):
        found.append(Check(name, value + float(off), value, math.sqrt(variance), note="weighted line"))
    return found


def collapsed(t: float, paths: int, zetas: Array, measured: Array, predicted: Array) -> list[Check]:
    """Return the collapsed fractions of one time beside their prediction; the all but certain ones as two sums."""
    found, note = [], "Brownian motion confined as log|theta| is, from the same starts"
    open_ = (predicted > CERTAIN) & (predicted < 1 - CERTAIN)
    for z, m, p in zip(zetas[open_], measured[open_], predicted[open_], strict=True):
        name = f"collapsed fraction at t={t:.4g}, zeta={z:.4g}"
        found.append(Check(name, float(m), float(p), binomial_error(float(p), paths), note=note))
    for name, chosen, side in (("", predicted <= CERTAIN, 1), ("not ", predicted >= 1 - CERTAIN, -1)):
        if chosen.any():
            count, expected = (
                paths * float((v[chosen] if side > 0 else 1 - v[chosen]).sum()) for v in (measured, predicted)
            )
            error = math.sqrt(max(expected, 1.0))
            about = f"paths that have {name}collapsed at t={t:.4g} where hardly any should have"
            found.append(Check(about, count, expected, error, note="Poisson; all such noise levels"))
    return found


CERTAIN = 1e-3
"""A fraction nearer than this to 0 or 1 is predicted by any theory: such are counted together."""
