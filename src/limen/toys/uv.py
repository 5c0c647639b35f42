"""The product of two layers of weights: the catapult, and where descent comes to rest (Lewkowycz et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from limen.dynamics.gd import GD
from limen.errors import InputError
from limen.objectives.analytic import Regression
from limen.objectives.factors import Factors, Product
from limen.toys import checks
from limen.toys.brownian import Array
from limen.toys.normals import Normals
from limen.toys.outcome import Check, Outcome, mean_and_error
from limen.toys.parallel import Tell, silent
from limen.types import State

FOLLOWED = 20
"""Steps over which descent is compared with its closed recursion; rounding grows in a catapult."""

CHAOTIC = 3.5
"""ηλ₀ from which on 20 steps amplify rounding much."""

SCALAR_STEPS = 5000
"""Of descent on the scalar network."""

AT_REST = 1e-6
"""A run is at rest where ηf/√m, or η(uv − s), is below this."""

CHUNK = 5
"""Learning rates at a time."""


def run(
    *,
    rates: Sequence[float] = tuple(np.linspace(0.1, 4.5, 45).tolist()),
    width: int = 512,
    seeds: int = 32,
    steps: int = 300,
    scalar_lr: float = 0.5,
    imbalances: Sequence[float] = tuple(np.linspace(0.5, 6.0, 56).tolist()),
    target: float = 1.0,
    seed: int = 0,
    dtype: str = "float64",
    tell: Tell = silent,
) -> Outcome:
    """Descend on f = u·v/√m with target 0 from N(0, 1), and on one scalar product uv with a target.

    For the product, η is `rates` over the sharpness λ₀ at the start: below 2 the network is lazy, between 2 and 4 the
    loss grows first and the sharpness falls (the catapult), beyond 4 it diverges as m → ∞. For the scalar
    network the gradient flow keeps u² − v², so it ends with the sharpness √((u₀² − v₀²)² + 4s²); descent multiplies
    u² − v² by 1 − η²e² a step, e = uv − s, and cannot rest where the sharpness is above 2/η.

    The arrays, R rates:
        rate (R,), lr (R, seeds): ηλ₀ and η. loss (R, T), sharpness (R, T): of the first seed, the latter times η.
        converged (R,): fraction of the seeds that did not diverge. final (R, seeds): ηλ at the end, or nan; left
        (R, seeds): η²f²/m there.
        drift, drift_error, drift_theory, drift_open (R,): mean of m(λ_end/λ₀ − 1)/f₀² of lazy networks, and to third
        order in 1/m averaged in the same way; the first is −(4 − ηλ₀)/(λ₀²(2 − ηλ₀)). drift_open:
        twice the fourth.
        recursion_error (R,): of f and λ over 20 steps against the closed recursion, relative to their magnitudes.
        imbalance (I,): u₀² − v₀². flow_sharpness, scalar_sharpness (I,): where the flow and descent come to rest.
        They are nan where descent was not at rest. invariant_error (I,): of u² − v² at the end against the product,
        relative to the flow's sharpness.

    Args:
        rates: ηλ₀.
        width: m.
        seeds: initial weights.
        steps: of descent.
        scalar_lr: η of the scalar network.
        imbalances: its starts u₀² − v₀².
        target: s, positive.
        seed: of all draws.
        dtype: float64 or float32.
        tell: hears of progress.

    Raises:
        InputError: a parameter is out of its range; the message gives the bound.
    """
    kind = checks.precision(dtype)
    for rate in rates:
        checks.time_step("rates", rate, 8.0, "twice what diverges in wide networks")
    checks.positive("target", target)
    checks.time_step(
        "scalar_lr", scalar_lr, 1 / target, "1/s, the sharpness of the flattest minimum being 2s"
    )
    checks.at_least("steps", steps, FOLLOWED)
    checks.at_least("seeds", seeds, 2)
    checks.at_least("width", width, 1)
    for imbalance in imbalances:
        checks.positive("imbalances", imbalance)
    if not rates or not imbalances:
        raise InputError("rates, imbalances: expected at least one value each, got none.")
    landscape = Product(width, kind)
    start = torch.stack([Normals(seed, "uv/start", i).draw((2 * width,)) for i in range(seeds)]).to(kind)
    f0, kernel0 = landscape.predict(start)[:, 0], landscape.kernel(start)
    lr = torch.tensor(list(rates), dtype=kind)[:, None] / kernel0
    chosen = range(0, len(lr), CHUNK)
    parts = []
    for first in chosen:
        parts.append(_descend(landscape, start, lr[first : first + CHUNK], steps))
        tell(1 / len(chosen))
    f, kernel, error = (torch.cat(part) for part in zip(*parts, strict=True))
    end = kernel[..., -1]
    alive = torch.isfinite(end) & (f[..., -1].abs() < 1 + f0.abs())  # near λ = 0 and 2/η the end is slow
    lazy = (end / kernel0 - 1) * width / f0.square()
    strength = lr.square() * f0.square() / width
    orders = lr.square() * torch.stack(
        [a * strength**n for n, a in enumerate(lazy_drift(lr * kernel0, steps))]
    )
    # where f₀ is small its square divides rounding by nothing: weigh by f₀²
    weight = f0.square() / f0.square().mean()
    drift, drift_error = mean_and_error((weight * lazy).double().numpy())
    flow, rest, invariant = _scalar(target, scalar_lr, imbalances, kind)
    arrays = {
        "rate": np.asarray(rates, dtype=float),
        "lr": lr.double().numpy(),
        "loss": 0.5 * f[:, 0].square().double().numpy(),
        "sharpness": (lr[:, :1] * kernel[:, 0]).double().numpy(),
        "converged": alive.double().mean(1).numpy(),
        "final": torch.where(alive, lr * end, torch.nan).double().numpy(),
        "left": ((lr * f[..., -1]).square() / width).double().numpy(),
        "drift": drift,
        "drift_error": drift_error,
        "drift_theory": (weight * orders[:3].sum(0)).mean(1).double().numpy(),
        "drift_open": (2 * weight * orders[3].abs()).mean(1).double().numpy(),
        "recursion_error": error.double().numpy(),
        "imbalance": np.asarray(imbalances, dtype=float),
        "flow_sharpness": flow.double().numpy(),
        "scalar_sharpness": rest.double().numpy(),
        "invariant_error": invariant.double().numpy(),
    }
    parameters = {
        "rates": list(rates),
        "width": width,
        "seeds": seeds,
        "steps": steps,
        "scalar_lr": scalar_lr,
        "imbalances": list(imbalances),
        "target": target,
        "seed": seed,
        "dtype": dtype,
    }
    return Outcome("uv", parameters, arrays, verdict(width, scalar_lr, float(torch.finfo(kind).eps), arrays))


def recursion(f: Tensor, kernel: Tensor, lr: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return f⁺ = f(1 − ηλ + η²f²/m) and λ⁺ = λ + (ηf²/m)(ηλ − 4) (Lewkowycz et al. 2020, eqs. 6 and 7)."""
    square = lr * f.square() / width
    return f * (1 - lr * kernel + lr * square), kernel + square * (lr * kernel - 4)


def lazy_drift(rate: Tensor, steps: int) -> Tensor:
    """Return aₙ, n = 0 … 3 (4, …), of m(λ_T/λ₀ − 1)/(ηf₀)² = Σ aₙGⁿ, G = η²f₀²/m, for ηλ₀ = rate after T steps.

    The recursion x⁺ = x(1 − l + Gx²), l⁺ = l + Gx²(l − 4) of x = f/f₀ and l = ηλ, in power series of G.
    """
    zero = torch.zeros_like(rate)
    x, sharpness = [zero + 1, *[zero] * ORDERS], [rate, *[zero] * ORDERS]

    def times(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
        return [sum((a[i] * b[n - i] for i in range(n + 1)), zero) for n in range(ORDERS + 1)]

    for _ in range(steps):
        square = [zero, *times(x, x)[:-1]]  # times G
        factor = [square[n] - sharpness[n] + (n == 0) for n in range(ORDERS + 1)]
        bend = times(square, [sharpness[0] - 4, *sharpness[1:]])
        x, sharpness = times(x, factor), [a + b for a, b in zip(sharpness, bend, strict=True)]
    return torch.stack(sharpness[1:]) / rate


ORDERS = 4
"""In 1/m, of the expansion of lazy networks."""


def _descend(landscape: Product, start: Tensor, lr: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return f and λ (r, seeds, T) of descent, and the worst relative error of the closed recursion (r,)."""
    w = start.expand(*lr.shape, -1)
    state = _state(landscape, w, lr)
    rule = GD(1.0)
    f, kernel = landscape.predict(w)[..., 0], landscape.kernel(w)
    said = f, kernel
    fs, kernels, errors = [f], [kernel], [torch.zeros(len(lr), dtype=w.dtype)]
    for step in range(steps):
        state, _ = rule.step(landscape.at(state), state)
        f, kernel = landscape.predict(state.w)[..., 0], landscape.kernel(state.w)
        fs.append(f)
        kernels.append(kernel)
        if step < FOLLOWED:
            said = recursion(*said, lr, landscape.width)
            apart = (f - said[0]).abs() / (1 + said[0].abs()) + (kernel - said[1]).abs() / (1 + said[1].abs())
            bounded = torch.isfinite(said[0]) & torch.isfinite(said[1])  # until then nan is an error
            errors.append(torch.where(bounded, apart, 0.0).amax(1))
    return torch.stack(fs, -1), torch.stack(kernels, -1), torch.stack(errors).amax(0)


def _state(landscape: Regression, w: Tensor, lr: Tensor) -> State:
    state = GD(1.0).init(landscape, w)
    return state.replace(hyper={"lr": lr.double()})


def _scalar(
    target: float, lr: float, imbalances: Sequence[float], kind: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the flow's and descent's sharpness at rest, and the relative error of the invariant."""
    gap = torch.tensor(list(imbalances), dtype=kind)
    # start a little off the minimum that the flow would find, at uv = 0.9 s
    product = 0.9 * target
    u2 = 0.5 * (gap + torch.sqrt(gap**2 + 4 * product**2))
    landscape = Factors(torch.tensor([target], dtype=kind))
    w = torch.stack([u2.sqrt(), product / u2.sqrt()], dim=-1)
    state, rule = GD(lr).init(landscape, w), GD(lr)
    shrunk = gap.clone()
    for _ in range(SCALAR_STEPS):
        shrunk = shrunk * (1 - lr**2 * (landscape.predict(state.w)[..., 0] - target).square())
        state, _ = rule.step(landscape.at(state), state)
    squares = state.w.square()
    kept = squares[..., 0] - squares[..., 1]
    flow = torch.sqrt(gap**2 + 4 * target**2)
    resting = lr * (landscape.predict(state.w)[..., 0] - target).abs() < AT_REST
    return flow, torch.where(resting, squares.sum(-1), torch.nan), (kept - shrunk).abs() / flow


def verdict(width: int, scalar_lr: float, rounding: float, arrays: dict[str, Array]) -> list[Check]:
    """Return what was measured beside the closed forms."""
    rate = arrays["rate"]
    wide = 4 / np.sqrt(width)
    found = []
    for name, where, predicted in (
        ("lazy", rate < 2, 1.0),
        ("catapult", (rate > 2) & (rate < 4 - wide), 1.0),
        ("divergent", rate > 4 + wide, 0.0),
    ):
        if where.any():
            measured = float(arrays["converged"][where].mean())
            found.append(
                Check(
                    f"fraction that does not diverge, {name}",
                    measured,
                    predicted,
                    0.0,
                    1e-12,
                    f"at distance {wide:.2g} from 4",
                )
            )
    found.append(
        Check(
            "worst error of the closed recursion",
            float(arrays["recursion_error"][rate < CHAOTIC].max(initial=0.0)),
            0.0,
            0.0,
            1e4 * rounding,
            f"rounding over {FOLLOWED} steps, eta lambda below {CHAOTIC:g}",
        )
    )
    found.extend(
        Check(
            f"m d(lambda)/(lambda f^2) at eta lambda={rate[i]:.3g}",
            float(arrays["drift"][i]),
            float(arrays["drift_theory"][i]),
            0.0,
            float(arrays["drift_open"][i]) + 1e4 * rounding * abs(float(arrays["drift_theory"][i])),
            "to third order in 1/m; the allowance is twice the fourth, and rounding",
        )
        for i in np.flatnonzero(rate < 1.6)
    )
    found.append(
        _resting(
            "largest eta lambda at rest",
            arrays["final"][arrays["left"] < AT_REST**2],
            math.sqrt(2) * AT_REST,
        )
    )
    ends = scalar_lr * arrays["scalar_sharpness"]
    found.append(
        _resting("scalar network: largest eta S at rest", ends[np.isfinite(ends)], 2 * scalar_lr * AT_REST)
    )
    found.append(
        Check(
            "scalar network: worst error of u^2 - v^2",
            float(arrays["invariant_error"].max()),
            0.0,
            0.0,
            math.sqrt(2 * SCALAR_STEPS) * rounding,
            f"rounding over {SCALAR_STEPS} steps, as a random walk",
        )
    )
    return found


def _resting(name: str, values: Array, left: float) -> Check:
    """Return that none of the sharpnesses at rest, times η, is above 2."""
    if not len(values):
        return Check.skip(name, "no run came to rest")
    return Check(name, float(values.max()), 2.0, 0.0, left, "what is left to fall", kind="at most")
