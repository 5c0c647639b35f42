"""How far two runs from one start have come apart in the weights, at equal times.

Shapes: m common times, r projections.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from limen.analysis.chi_square import quantile
from limen.analysis.readable import Array, Readable, Series, is_flow, momentum
from limen.errors import InputError

ONE_START = ("dataset", "arch", "loss", "seed", "dtype", "model", "data")
"""Words of a spec that decide the landscape and the start."""

ONE_MAP = ("projection", "nproj")
"""Words that decide the projection."""

CLOCK = 1e-9
"""Relative difference below which two times are one: sums of steps round."""

SAME_LOSS = 1e-3
"""Relative difference of the losses at the start beyond which two landscapes are not one."""

REFERENCES = {"flow": "flow", "tighter": "flow at rtol/10"}
"""What the branches are that limen integrates beside a run."""

R = TypeVar("R", bound=Readable)

BAND = 0.95
"""Probability with which the true distance lies in the band."""

NARROW = 0.01
"""Width of a band, relative to the distance, below which it is left out of figures."""


@dataclass(frozen=True)
class Apart:
    """The distance of a run from another at their common times.

    Attributes:
        reference: what the other is, in a word or two.
        steps: of the run (m,).
        t: the times (m,).
        distance: ‖w − w'‖, exact or estimated (m,).
        low: where the band about it begins (m,); the distance itself where that is exact.
        high: where it ends (m,).
        displacement: ‖w' − w₀‖, how far the other has come (m,); estimated like the distance, nan where unknown.
        loss_gap: L(w) − L(w') (m,), nan where one of them was not recorded.
        outputs: ‖f(w) − f(w')‖ over all outputs on the training set (m,); None where it was not recorded.
        path: length of the run's own trajectory so far (m,); None where it was not recorded.
        rounding: distances below this are rounding of what was stored (m,); 0 where it is exact.
        projections: r, from which the distance was estimated; 0 where it is exact.
    """

    reference: str
    steps: NDArray[np.int64]
    t: Array
    distance: Array
    low: Array
    high: Array
    displacement: Array
    loss_gap: Array
    rounding: Array
    outputs: Array | None = None
    path: Array | None = None
    projections: int = 0

    @property
    def relative(self) -> Array:
        """‖w − w'‖/‖w' − w₀‖, nan where the other has not moved."""
        moved = np.where(self.displacement > 0, self.displacement, np.nan)
        nowhere_apart = (self.distance == 0) & np.isnan(self.displacement)
        with np.errstate(invalid="ignore"):  # inf/inf where both diverged
            return np.asarray(np.where(nowhere_apart, 0.0, self.distance / moved), dtype=np.float64)

    @property
    def error(self) -> float:
        """Relative standard error of each distance, 1/√(2r); 0 where it is exact."""
        return relative_error(self.projections)

    @property
    def banded(self) -> bool:
        """Whether the band about the distance is wide enough to be seen."""
        return bool((self.high > (1 + NARROW) * self.low).any())

    def last_until(self, t: float) -> int:
        """Return the index of the last common time that is not after `t`."""
        return max(int(np.searchsorted(self.t, t * (1 + CLOCK), side="right")) - 1, 0)


def relative_error(projections: int) -> float:
    """Return the relative standard error of a norm estimated from so many projections; 0 if there are none.

    r projections of Δ with independent normal entries have ‖PΔ‖²/‖Δ‖² ~ χ²(r), so that ‖PΔ‖/√r has the relative
    standard deviation 1/√(2r) (1 + O(1/r)); the sparse sign map has about the same.
    """
    return 1 / math.sqrt(2 * projections) if projections else 0.0


def band(projections: int) -> tuple[float, float]:
    """Return the factors on an estimate between which the norm lies with probability `BAND`.

    By the chi-square law: ‖Δ‖ = ‖PΔ‖/√χ² is in [√(r/χ²₁₋), √(r/χ²₋)] times the estimate; χ²₋ and χ²₁₋ cut off
    (1 − BAND)/2 each. Exact for the Gaussian map and any Δ fixed before it is drawn, approximate for the sketch.
    """
    tail = (1 - BAND) / 2
    upper, lower = quantile(1 - tail, projections), quantile(tail, projections)
    return math.sqrt(projections / upper), math.sqrt(projections / lower)


def obstacle(run: Readable, other: Readable) -> str | None:
    """Return why the distance between two runs cannot be found from what they recorded, and the fix; None if it can."""
    if why := _another_flow(run, other) or _another_flow(other, run):
        return why
    for one in (run, other):
        if "iterates" not in one.names():
            return (
                f"{one.folder} has no projected iterates. Run it again with --nproj 500 --iterate_freq 10 "
                "(both runs with the same nproj), or gd with --track_flow for the exact distance."
            )
    mine, theirs = dict(run.spec), dict(other.spec)
    for key in (*ONE_START, *ONE_MAP):
        if mine.get(key) != theirs.get(key):
            return (
                f"{key} is {_shown(mine, key)} in {run.folder} and {_shown(theirs, key)} in {other.folder}: "
                f"a distance means something only {'in one projection' if key in ONE_MAP else 'from one start'}. "
                f"Run one of them again with the other's {key}."
            )
    if any(one.info.get("ghost_batches") for one in (run, other)):
        batches = [one.info.get("physical_batch_size") for one in (run, other)]
        if None not in batches and batches[0] != batches[1]:
            return (
                f"physical_batch_size is {batches[0]} in {run.folder} and {batches[1]} in {other.folder}: with "
                "BatchNorm the loss depends on it, so these are two landscapes. Run one of them again with the other's."
            )
    here, there = _rows(run.series("iterates")), _rows(other.series("iterates"))
    if here.shape[1] != there.shape[1]:
        return (
            f"expected equally many projections, got {here.shape[1]} in {run.folder} and {there.shape[1]} in "
            f"{other.folder}. Run both with the same --nproj."
        )
    mine_at, theirs_at = matches(run.series("iterates").t, other.series("iterates").t)
    if not (other.series("iterates").t[theirs_at] > 0).any():
        return f"{run.folder} and {other.folder} have no common times after the start. {_frequencies(run, other)}"
    if mine_at[0] == theirs_at[0] == 0 and not np.allclose(
        here[0], there[0], rtol=1e-5, atol=1e-6 * _size(here[0])
    ):
        return (
            f"{run.folder} and {other.folder} do not start at the same weights. Run both with the same seed, "
            "network and version of limen."
        )
    losses = [
        float(one.series("train_loss").values[0]) for one in (run, other) if "train_loss" in one.names()
    ]
    if len(losses) == 2 and not math.isclose(*losses, rel_tol=SAME_LOSS, abs_tol=1e-12):
        return (
            f"the training loss begins at {losses[0]:.6g} in {run.folder} and {losses[1]:.6g} in {other.folder}: "
            "these are two landscapes. Use the same data, and with BatchNorm the same physical_batch_size."
        )
    return None


def apart(run: Readable, other: Readable | None = None) -> Apart:
    """Return the distance of two runs, or the one that a run has recorded.

    Args:
        run: a descent, its distance from `other` measured at its own steps; a flow named first changes places with a
            descent named second. Alone, a run made with --track_flow or --certify.
        other: the flow, or None.

    Raises:
        InputError: the distance cannot be found; the message says why, and how to run again.
    """
    if other is None:
        return recorded(run, "tighter" if is_flow(run) else "flow")
    return projected(*descent_first(run, other))


def descent_first(run: R, other: R) -> tuple[R, R]:
    """Return two runs, the descent first where the other is a flow; else as they are."""
    return (other, run) if is_flow(run) and not is_flow(other) else (run, other)


def projected(run: Readable, other: Readable) -> Apart:
    """Estimate the distance of `run` from `other` from their projected iterates, at their common times.

    Args:
        run: usually a descent; its steps are kept.
        other: usually the flow.

    Raises:
        InputError: they cannot be compared; `obstacle` says why.
    """
    if why := obstacle(run, other):
        raise InputError(why)
    mine, theirs = run.series("iterates"), other.series("iterates")
    at, there = matches(mine.t, theirs.t)
    here, rows = _rows(mine), _rows(theirs)
    count = rows.shape[1]
    # The published map has E‖Pw‖² = r‖w‖², the sketch keeps norms.
    scale = 1.0 if run.spec.get("projection") == "sketch" else 1 / math.sqrt(count)
    distance = scale * np.linalg.norm(here[at] - rows[there], axis=1)
    low, high = band(count)
    precision = max(np.finfo(series.values.dtype).eps for series in (mine, theirs))
    sizes = np.maximum(np.linalg.norm(here[at], axis=1), np.linalg.norm(rows[there], axis=1))
    return Apart(
        reference="flow" if is_flow(other) else "other run",
        steps=np.asarray(mine.steps, dtype=np.int64)[at],
        t=np.asarray(mine.t, dtype=np.float64)[at],
        distance=distance,
        low=low * distance,
        high=high * distance,
        displacement=scale * np.linalg.norm(rows[there] - rows[0], axis=1),
        loss_gap=_loss_gap(run, other, mine.t[at]),
        rounding=precision * scale * sizes,
        projections=count,
    )


def recorded(run: Readable, branch: str) -> Apart:
    """Return the exact distance of a run from a branch that was integrated beside it.

    Args:
        run: made with --track_flow (branch `flow`), or with --certify (branch `tighter`).
        branch: name of the other trajectory.

    Raises:
        InputError: no such distance was recorded.
    """
    present = set(run.names())
    if f"{branch}/distance" not in present:
        raise InputError(
            f"{run.folder} has no recorded distance to {branch!r}. Name a second run, a flow, for the distance "
            "from projected iterates; or run gd with --track_flow, or flow with --certify."
        )
    series = run.series(f"{branch}/distance")

    def also(name: str) -> Array | None:
        if f"{branch}/{name}" not in present:
            return None
        return np.asarray(run.series(f"{branch}/{name}").values, dtype=np.float64)

    distance = np.asarray(series.values, dtype=np.float64)
    relative, gap, nothing = also("relative"), also("loss_gap"), np.full(len(distance), np.nan)
    relative = nothing if relative is None else relative
    t = np.asarray(series.t, dtype=np.float64)
    # a recorded 0 stands for one of two: nothing apart, of a displacement unknown, or nothing moved
    still = (t == 0) | ((distance > 0) & (relative == 0))
    with np.errstate(invalid="ignore"):
        displacement = np.where(still, 0.0, distance / np.where(relative > 0, relative, np.nan))
    return Apart(
        reference=REFERENCES.get(branch, branch),
        steps=np.asarray(series.steps, dtype=np.int64),
        t=t,
        distance=distance,
        low=distance,
        high=distance,
        displacement=displacement,
        loss_gap=nothing if gap is None else gap,
        rounding=np.zeros(len(distance)),
        outputs=also("outputs_distance"),
        path=also("path"),
    )


def matches(one: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of the common times of two increasing sequences, equal up to rounding.

    >>> matches(np.array([0.0, 0.1, 0.2, 0.30000000000000004]), np.array([0.0, 0.15, 0.3]))
    (array([0, 3]), array([0, 2]))
    """
    if not len(one) or not len(other):
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    found = np.minimum(np.searchsorted(other, one * (1 - CLOCK)), len(other) - 1)
    equal = np.abs(other[found] - one) <= CLOCK * np.abs(one)
    return np.flatnonzero(equal), found[equal]


def _another_flow(run: Readable, flow: Readable) -> str | None:
    """Return why a run with momentum is not to be compared with a gradient flow; None if it has none."""
    beta = momentum(run)
    if not is_flow(flow) or not beta:
        return None
    return (
        f"{run.folder} is {run.spec['opt']} with beta = {beta:g}, which follows the flow in time lr/(1 − beta) a step, "
        f"{1 / (1 - beta):.3g} times as fast as the lr a step by which its time is counted: at equal times it is not "
        "beside its flow. Compare limen gd."
    )


def _loss_gap(run: Readable, other: Readable, times: NDArray[Any]) -> Array:
    gap = np.full(len(times), np.nan)
    if "train_loss" in run.names() and "train_loss" in other.names():
        mine, theirs = run.series("train_loss"), other.series("train_loss")
        at, there = matches(mine.t, theirs.t)
        to, of = matches(times, mine.t[at])
        gap[to] = mine.values[at][of] - theirs.values[there][of]
    return gap


def _frequencies(run: Readable, other: Readable) -> str:
    """Say with which frequencies of projection two runs meet."""
    steps = [_length(one) for one in (run, other)]
    if None in steps:
        return "Let them project their iterates at the same times."
    one, two = (step for step in steps if step is not None)
    ratio = Fraction(two / one).limit_denominator(1000)
    names = [f"{'tick' if is_flow(each) else 'lr'}" for each in (run, other)]
    if not ratio or not math.isclose(ratio, two / one, rel_tol=CLOCK):
        return (
            f"Their steps last {one:.6g} and {two:.6g}, and no small multiples agree: "
            f"choose the {names[1]} of the second as a multiple of the {names[0]} of the first."
        )
    return (
        f"They meet where {names[0]} × iterate_freq of the first = {names[1]} × iterate_freq of the second: "
        f"take --iterate_freq {ratio.numerator} in the first and {ratio.denominator} in the second, or multiples, "
        "and runs long enough."
    )


def _length(run: Readable) -> float | None:
    """Return the time that one step of a run takes."""
    word = run.spec.get("tick") if is_flow(run) else run.spec.get("lr")
    return None if word is None else float(word)


def _rows(series: Series) -> Array:
    """Return the projections as (m, r) float64."""
    return np.asarray(series.values, dtype=np.float64).reshape(len(series.steps), -1)


def _size(row: Array) -> float:
    return float(np.abs(row).max(initial=0.0))


def _shown(spec: dict[str, Any], key: str) -> str:
    return repr(spec[key]) if key in spec else "not said"
