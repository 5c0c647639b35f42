"""A single neuron under label noise: the learning rate beyond which it dies (Chen et al. 2023, theorem 4.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from limen.errors import InputError
from limen.objectives.neuron import Neuron, Table
from limen.objectives.units import Units
from limen.toys import checks
from limen.toys.brownian import Array, euler_exponent
from limen.toys.fits import line, pooled
from limen.toys.normals import Normals
from limen.toys.outcome import Check, Outcome, mean_and_error
from limen.toys.parallel import Tell, silent
from limen.toys.paths import follow

DEAD = 0.01
"""A neuron has collapsed where ‖w‖ is below this."""

TOGETHER = 8000
"""Paths that advance as one tensor: a step has a dozen intermediate results, which must stay in cache."""

SMALL, EXPONENT_TIME = 1e-60, 10.0
"""Where exponents are measured from, and over how long."""

LEARNING_RATES = (
    *np.linspace(0, 1, 5).tolist(),
    *np.linspace(1.05, 2.5, 40).tolist(),
    *np.linspace(2.6, 4, 5).tolist(),
)
"""As published: sparse where nothing changes, dense about the threshold."""


def data(seed: int, examples: int, noise: float, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return x ~ N(0, 1) and y = x + noise·n, n ~ N(0, 1), each (examples,)."""
    x, n = (Normals(seed, f"neuron/{name}").draw((examples,)) for name in ("x", "n"))
    return x.to(dtype), (x + noise * n).to(dtype)


def run(
    *,
    etas: Sequence[float] = LEARNING_RATES,
    zeta: float = 1.0,
    activation: str = "tanh",
    examples: int = 32,
    noise: float = 0.1,
    paths: int = 1000,
    dt: float = 0.01,
    times: Sequence[float] = (100.0, 200.0, 400.0, 1000.0),
    spread: float = 1e-3,
    inputs: Sequence[float] | None = None,
    targets: Sequence[float] | None = None,
    seed: int = 0,
    dtype: str = "float64",
    threads: int | None = None,
    tell: Tell = silent,
) -> Outcome:
    """Simulate dw = −∇L dt + √η ζ Σᵢ∇ŷᵢ dBᵢ/√m, ŷ = w₂σ(w₁x), and compare with its theory; published defaults.

    The arrays, L learning rates η and S times:
        eta (L,), time (S,), fraction (S, L): of neurons with ‖w‖ < 0.01.
        exponent, exponent_error, exponent_theory, exponent_euler (L,): of log‖w‖ at 0, measured, as derived, and for
        steps of length dt.
        end_eta (E,), end_w (E, paths, 2): end points below, at and above the threshold. x, y (m,). grid (G,),
        landscape (G, G): L over w₁ (columns) and w₂ (rows).

    The threshold of η is 2|⟨xy⟩|/(σ'(0)⟨x²⟩ζ²): w₁ + w₂ grows at 0 where ⟨xy⟩ > 0, w₁ − w₂ where ⟨xy⟩ < 0.

    Args:
        etas: learning rates of the sweep: the noise.
        zeta: label noise.
        activation: σ with σ(0) = 0, by name.
        examples: m.
        noise: standard deviation of y − x.
        paths: trajectories a learning rate.
        dt: time step.
        times: at which dead neurons are counted.
        spread: standard deviation of the initial weights.
        inputs: x in place of a draw, with targets.
        targets: y in place of a draw, with inputs.
        seed: of all draws, data included.
        dtype: float64 or float32; exponents are always measured in float64.
        threads: at once (all cores if None); results do not depend on it.
        tell: hears of progress.

    Raises:
        InputError: a parameter is out of its range; the message gives the bound.
    """
    kind = checks.precision(dtype)
    checks.noise("etas", etas)
    checks.noise("zeta, noise", (zeta, noise))
    checks.positive("spread", spread)
    checks.at_least("paths", paths, 2)
    checks.at_least("examples", examples, 1)
    if (inputs is None) != (targets is None):
        raise InputError("inputs, targets: expected both or neither.")
    if inputs is None or targets is None:
        x, y = data(seed, examples, noise)
    else:
        x, y = (torch.tensor(values, dtype=torch.float64) for values in (inputs, targets))
    exact = Units(x, y, 1, activation)
    checks.time_step("dt", dt, stable_step(exact), "2 over the sharpness of the neuron's minimum")
    if not times:
        raise InputError("times: expected at least one value, got none.")
    for t in times:
        checks.positive("times", t)
    checks.at_least("times/dt", round(min(times) / dt), 1)
    steps = sorted({round(t / dt) for t in times})
    slope, products, squares = exact.sigma.slope_at_zero, float((x * y).mean()), float(x.square().mean())
    threshold = math.inf if zeta == 0 else 2 * abs(products) / (slope * squares * zeta**2)
    growing = torch.tensor([1.0, math.copysign(1.0, products)], dtype=torch.float64)  # and the direction

    def simulate(at: Sequence[int], name: str, share: float, precise: bool) -> Array:
        kept = torch.float64 if precise else kind
        units = Units(x.to(kept), y.to(kept), 1, activation)
        table = Table(units)

        def start(level: int) -> Tensor:
            draw = Normals(seed, f"neuron/{name}/start", level).draw((paths, 2))
            return SMALL * growing.expand_as(draw) if precise else spread * draw

        states = follow(
            lambda eta: Neuron(units, eta, zeta, table),
            torch.tensor(etas, dtype=kept),
            start,
            dt,
            at,
            seed=seed,
            name=f"neuron/{name}",
            threads=threads,
            together=TOGETHER,
            tell=lambda fraction: tell(share * fraction),
        )
        if not bool(torch.isfinite(states).all()):
            raise InputError(f"a trajectory left every bound at dt = {dt:g}: lower dt, or the noise.")
        out: Array = states.double().numpy()
        return out

    short = round(EXPONENT_TIME / dt)
    share = steps[-1] / (steps[-1] + short)
    swept = simulate(steps, "sweep", share, precise=False)
    near = simulate([short], "exponent", 1 - share, precise=True)[0]
    eta = np.asarray(etas, dtype=float)
    exponent, exponent_error = mean_and_error(np.log(np.abs(near).max(-1) / SMALL) / (short * dt))
    drift = slope * abs(products)
    strength = zeta * slope * np.sqrt(eta * squares)
    shown = sorted({int(np.abs(eta - factor * threshold).argmin()) for factor in (0.5, 1.0, 1.5)})
    line = torch.linspace(-3.5, 3.5, 141, dtype=torch.float64)
    arrays = {
        "eta": eta,
        "time": dt * np.asarray(steps, dtype=float),
        "fraction": (np.linalg.norm(swept, axis=-1) < DEAD).mean(-1),
        "exponent": exponent,
        "exponent_error": exponent_error,
        "exponent_theory": drift - strength**2 / 2,
        "exponent_euler": np.array([euler_exponent(drift, float(s), dt)[0] for s in strength]),
        "end_eta": eta[shown],
        "end_w": swept[-1][shown],
        "x": x.numpy(),
        "y": y.numpy(),
        "grid": line.numpy(),
        "landscape": exact.value(torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)).numpy(),
    }
    parameters = {
        "etas": eta.tolist(),
        "threshold": threshold if math.isfinite(threshold) else None,
        "zeta": zeta,
        "activation": activation,
        "examples": len(x),
        "noise": noise,
        "paths": paths,
        "dt": dt,
        "times": arrays["time"].tolist(),
        "spread": spread,
        "seed": seed,
        "dtype": dtype,
    }
    return Outcome("neuron", parameters, arrays, verdict(threshold, arrays))


def stable_step(units: Units) -> float:
    """Return 2/S, S the largest Hessian eigenvalue where gradient descent from (1, 1) comes to rest."""
    w = torch.ones(2, dtype=torch.float64)
    for _ in range(3000):
        w = w - 0.1 / float(1 + units.inputs.square().mean()) * units.gradient(w)
    hessian = units.hessian(w)
    return 2 / float(torch.linalg.eigvalsh(hessian)[-1])


def verdict(threshold: float, arrays: dict[str, Array]) -> list[Check]:
    """Return what was measured beside what theory says."""
    found = [
        Check(f"exponent at eta={eta:.4g}", m, p, e, 1e-6, "prediction for Euler's steps of length dt")
        for eta, m, p, e in zip(
            arrays["eta"],
            arrays["exponent"],
            arrays["exponent_euler"],
            arrays["exponent_error"],
            strict=True,
        )
    ]
    drawn = (arrays["eta"] > 0) & (arrays["exponent_error"] > 0)
    off = (arrays["exponent"] - arrays["exponent_euler"])[drawn] / arrays["exponent_error"][drawn]
    found.append(pooled("the exponents together", off))
    name = "eta where the exponent is 0"
    if not math.isfinite(threshold):
        found.append(Check.skip(name, "without label noise there is none"))
    elif len(np.unique(arrays["eta"][drawn])) < 3:
        found.append(Check.skip(name, "fewer than three learning rates above 0"))
    else:
        found.append(crossing(threshold, {name: arrays[name][drawn] for name in SLOPES}))
    return found


SLOPES = ("eta", "exponent", "exponent_error", "exponent_theory", "exponent_euler")


def crossing(threshold: float, arrays: dict[str, Array]) -> Check:
    """Return where the line fitted to the measured exponents, less what dt adds, crosses 0, beside the threshold."""
    values = arrays["exponent"] - (arrays["exponent_euler"] - arrays["exponent_theory"])
    (intercept, slope), covariance = line(arrays["eta"], values, arrays["exponent_error"])
    measured = -intercept / slope
    gradient = np.array([-1 / slope, intercept / slope**2])
    error = math.sqrt(gradient @ covariance @ gradient)
    return Check("eta where the exponent is 0", float(measured), threshold, error, note="weighted line")
