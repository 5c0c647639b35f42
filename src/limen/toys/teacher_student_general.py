"""A linear teacher and a two-layer linear student in any basis: the noise of small batches (Chen et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limen.errors import InputError
from limen.toys import checks
from limen.toys.brownian import Array
from limen.toys.normals import Normals
from limen.toys.outcome import Check, Outcome
from limen.toys.parallel import Tell, silent, spread
from limen.toys.teacher_student import teacher

BLOCK = 1000
"""Steps whose batches are drawn at once."""


@dataclass(frozen=True)
class Problem:
    """Data of a general teacher, and where its student starts.

    Attributes:
        x: (N, n).
        y: (N, n).
        w: the teacher (n, n).
        v0: first layer (n, n).
        u0: second layer (n, n); the student is x V U.
        x_test: (N, n), drawn as x is; there the teacher is without noise.
    """

    x: Tensor
    y: Tensor
    w: Tensor
    v0: Tensor
    u0: Tensor
    x_test: Tensor


def problem(seed: int, examples: int, n: int, rank: int, noise: float) -> Problem:
    """Return X and X_test uniform on [0, 1]/√n, Y = XW + noise·ξ/√n, V₀ and U₀ uniform on [0, 1/2]."""
    w = teacher(seed, n, np.linspace(0.5, 1, rank).tolist())
    shapes = {"x": (examples, n), "v": (n, n), "u": (n, n), "x_test": (examples, n)}
    x, v0, u0, x_test = (_uniform(seed, name, shape) for name, shape in shapes.items())
    x /= math.sqrt(n)
    x_test /= math.sqrt(n)
    draw = Normals(seed, "teacher-student-general/y").draw((examples, n))
    return Problem(x, x @ w + noise / math.sqrt(n) * draw, w, v0 / 2, u0 / 2, x_test)


def _uniform(seed: int, name: str, shape: tuple[int, int]) -> Tensor:
    return torch.from_numpy(Normals(seed, f"teacher-student-general/{name}").uniform.random(shape))


def run(
    *,
    batches: Sequence[int] = (1, 2, 4, 8, 16, 1024),
    warm_up: float = 3e-4,
    warm_up_steps: int = 10_000,
    drop: float = 0.1,
    drops_at: Sequence[int] = (50_000, 53_000),
    steps: int = 100_001,
    examples: int = 1024,
    n: int = 64,
    rank: int = 8,
    noise: float = 0.5,
    record: int = 500,
    seed: int = 0,
    dtype: str = "float64",
    threads: int | None = None,
    tell: Tell = silent,
) -> Outcome:
    """Train a two-layer linear student by minibatches drawn without replacement; published defaults.

    The learning rate grows by `warm_up` a step for `warm_up_steps` steps and falls by the factor `drop` at each of
    `drops_at`. All batch sizes start from the same weights.

    The arrays, B batch sizes and K records:
        batch (B,), step (K,), rate (K,): learning rate of the step that follows.
        train_loss, test_error (B, K): ½‖Y − XVU‖², and the mean of (W − VU)² over entries.
        test_loss (B, K): ½‖X_test(W − VU)‖², on new inputs.
        singular (B, K, n): singular values of VU. teacher (rank,).

    Args:
        batches: examples a step; N of them is the full batch.
        warm_up: added to the learning rate at each of the first steps.
        warm_up_steps: how many.
        drop: factor of the learning rate.
        drops_at: at these steps.
        steps: how many states, the start included.
        examples: N.
        n: inputs, hidden units and outputs.
        rank: of the teacher.
        noise: of the outputs, times 1/√n.
        record: steps between records.
        seed: of all draws.
        dtype: float64 or float32.
        threads: at once (all cores if None); results do not depend on it.
        tell: hears of progress.

    Raises:
        InputError: a parameter is out of its range; the message gives the bound.
    """
    kind = checks.precision(dtype)
    checks.positive("warm_up", warm_up)
    checks.noise("noise", (noise,))
    checks.at_least("steps", steps, 2)
    for batch in batches:
        if not 1 <= batch <= examples:
            raise InputError(f"batches: expected 1 … {examples} examples, got {batch}.")
    if not 1 <= rank <= n:
        raise InputError(f"rank must lie in 1 … n = {n}, got {rank}.")
    given = problem(seed, examples, n, rank, noise)
    peak = warm_up * warm_up_steps
    bound = stable_rate(given)
    checks.time_step(
        "warm_up · warm_up_steps", peak, bound, "2 over the sharpness of the least-squares student"
    )
    rates = schedule(steps, warm_up, warm_up_steps, drop, drops_at)
    grid = np.unique([*range(0, steps, record), steps - 1])

    def work(batch: int) -> tuple[Array, ...]:
        return _train(given, kind, batch, rates, grid, seed, lambda fraction: tell(fraction / len(batches)))

    parts = list(zip(*spread(work, list(batches), threads), strict=True))
    train, test, test_loss, singular = (np.stack(part) for part in parts)
    arrays = {
        "batch": np.asarray(batches, dtype=float),
        "step": grid.astype(float),
        "rate": rates[grid],
        "train_loss": train,
        "test_error": test,
        "test_loss": test_loss,
        "singular": singular,
        "teacher": np.linspace(0.5, 1, rank),
    }
    parameters = {
        "batches": list(batches),
        "warm_up": warm_up,
        "warm_up_steps": warm_up_steps,
        "drop": drop,
        "drops_at": list(drops_at),
        "steps": steps,
        "examples": examples,
        "n": n,
        "rank": rank,
        "noise": noise,
        "seed": seed,
        "dtype": dtype,
    }
    return Outcome("teacher-student-general", parameters, arrays, verdict(given, rates, arrays))


def schedule(steps: int, warm_up: float, warm_up_steps: int, drop: float, drops_at: Sequence[int]) -> Array:
    """Return the learning rate of each step (steps,).

    >>> schedule(6, 0.5, 2, 0.1, [4]).round(3).tolist()
    [0.5, 1.0, 1.0, 1.0, 0.1, 0.1]
    """
    step = np.arange(steps)
    fallen = sum((step >= at).astype(int) for at in drops_at) if drops_at else np.zeros(steps)
    out: Array = warm_up * np.minimum(step + 1, warm_up_steps) * drop**fallen
    return out


def stable_rate(given: Problem) -> float:
    """Return 2/S, S = λ₁(XᵀX/N)·2s₁ the sharpness at the balanced least-squares student, s₁ its singular value."""
    solution = torch.linalg.lstsq(given.x, given.y).solution
    covariance = torch.linalg.eigvalsh(given.x.T @ given.x / len(given.x))[-1]
    return 2 / float(covariance * 2 * torch.linalg.matrix_norm(solution, 2))


def draw_batches(uniform: np.random.Generator, examples: int, batch: int, count: int) -> Tensor:
    """Return `count` batches of different examples (count, batch), uniform among all (repeats are drawn again)."""
    chosen = uniform.integers(0, examples, (count, batch))
    while len(again := np.flatnonzero((np.diff(np.sort(chosen, axis=1), axis=1) == 0).any(1))):
        chosen[again] = uniform.integers(0, examples, (len(again), batch))
    return torch.from_numpy(chosen)


def _train(
    given: Problem, kind: torch.dtype, batch: int, rates: Array, grid: Array, seed: int, tell: Tell
) -> tuple[Array, ...]:
    """Train with one batch size; return training loss, test error, test loss (K,) and singular values (K, n)."""
    x, y, w = given.x.to(kind), given.y.to(kind), given.w.to(kind)
    v, u = given.v0.to(kind), given.u0.to(kind)
    xx, xy, yy = x.T @ x, x.T @ y, float(y.square().sum())
    # a large batch costs less as its correlations would, but only the full one has them ready; repeats are rare
    # below the square root of N, beyond it the examples are shuffled
    whole, sparse = batch == len(x), batch**2 <= len(x)
    uniform = Normals(seed, "teacher-student-general/batch", batch).uniform
    new = given.x_test.to(kind).T @ given.x_test.to(kind)
    wanted, train, test, test_loss, singular = set(grid.tolist()), [], [], [], []
    chosen = torch.empty(0)
    for step, rate in enumerate(rates.tolist()):
        if step in wanted:
            product = v @ u
            train.append(0.5 * (yy + float(((xx @ product - 2 * xy) * product).sum())))
            missing = product - w
            test.append(float(missing.square().mean()))
            test_loss.append(0.5 * float((new @ missing * missing).sum()))
            singular.append(torch.linalg.svdvals(product.double()).numpy())
        if step == len(rates) - 1:
            break
        if step % BLOCK == 0:
            tell(min(BLOCK, len(rates) - step) / len(rates))
            if sparse and not whole:
                chosen = draw_batches(uniform, len(x), batch, BLOCK)
        scale = rate / batch
        if whole:
            gradient = xx @ (v @ u) - xy
            dv, du = gradient @ u.T, v.T @ gradient
        else:
            index = chosen[step % BLOCK] if sparse else torch.from_numpy(uniform.permutation(len(x))[:batch])
            dv, du = descent(x.index_select(0, index), y.index_select(0, index), v, u)
        v = v.sub(dv, alpha=scale)
        u = u.sub(du, alpha=scale)
    if not math.isfinite(train[-1]):
        raise InputError(f"batch {batch} diverged: lower warm_up.")
    return np.array(train), np.array(test), np.array(test_loss), np.array(singular)


def descent(x: Tensor, y: Tensor, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of ½‖xVU − y‖² in V and U, of the examples x and y (b, n)."""
    hidden = x @ v
    residual = torch.addmm(y, hidden, u, beta=-1)
    return x.T @ (residual @ u.T), hidden.T @ residual


def verdict(given: Problem, rates: Array, arrays: dict[str, Array]) -> list[Check]:
    """Return the order of the test errors at the end, smallest batch against the full one: the paper's claim."""
    batch, test = arrays["batch"], arrays["test_error"][:, -1]
    name = "test error of the smallest batch over that of the full one"
    if batch.max() != len(given.x) or batch.min() > 16:
        return [Check.skip(name, "it takes the full batch, and one of at most 16")]
    ratio = float(test[batch.argmin()] / test[batch.argmax()])
    return [
        Check(
            name,
            ratio,
            1.0,
            0.0,
            note="one seed; small batches kill modes that the teacher lacks",
            kind="below",
        )
    ]
