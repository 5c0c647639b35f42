"""What a simulated system hands back: arrays, and what was measured beside what was predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SIGMAS = 3.0
"""A prediction holds within so many standard errors of the measurement."""


Kind = Literal["is", "at most", "below"]


@dataclass(frozen=True)
class Check:
    """One number, measured and predicted.

    Attributes:
        name: what it is.
        measured: the estimate.
        predicted: what theory says: the value, or the bound where `kind` is one-sided.
        error: one standard error of the estimate; 0 where nothing is drawn.
        allowance: what the theory itself leaves open (higher orders, rounding), in the same units.
        note: why there is an allowance, or where the prediction comes from.
        kind: whether theory says what the number is, or that it is at most, or below, `predicted`.
        skipped: why there was nothing to judge; then there are no numbers and the check has no part in the verdict.
    """

    name: str
    measured: float
    predicted: float
    error: float
    allowance: float = 0.0
    note: str = ""
    kind: Kind = "is"
    skipped: str = ""

    @classmethod
    def skip(cls, name: str, why: str) -> Check:
        """Return a check that cannot be made here, and why."""
        return cls(name, math.nan, math.nan, 0.0, skipped=why)

    @property
    def deviation(self) -> float:
        """The difference beyond the allowance, in standard errors; nan where a number is."""
        off = float(self.measured) - float(self.predicted)
        excess = max((abs(off) if self.kind == "is" else off) - float(self.allowance), 0.0)
        if math.isnan(off) or math.isnan(self.error) or math.isnan(self.allowance):
            return math.nan
        if self.kind == "below" and off == 0:
            return math.inf
        return excess / float(self.error) if self.error > 0 else (0.0 if excess == 0 else math.inf)

    @property
    def holds(self) -> bool | None:
        """Whether it is within three standard errors of the prediction, and the allowance; None if skipped."""
        return None if self.skipped else self.deviation <= SIGMAS

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers; what is not finite is null."""
        numbers = ("measured", "predicted", "error", "allowance")
        return {
            "name": self.name,
            "kind": self.kind,
            **{name: _finite(getattr(self, name)) for name in numbers},
            "deviation_sigmas": _finite(self.deviation),
            "holds": self.holds,
            "note": self.note,
            "skipped": self.skipped or None,
        }


@dataclass(frozen=True)
class Outcome:
    """The arrays of one simulated system and the verdict on its theory.

    Attributes:
        system: its name.
        parameters: all that determines the result (JSON-able).
        arrays: by name, float64.
        checks: what was measured and predicted.
    """

    system: str
    parameters: Mapping[str, Any]
    arrays: Mapping[str, NDArray[np.float64]]
    checks: Sequence[Check] = field(default_factory=tuple)

    @property
    def judged(self) -> list[Check]:
        """The checks that could be made."""
        return [check for check in self.checks if not check.skipped]

    @property
    def skipped(self) -> list[Check]:
        """The checks that could not, each with its reason."""
        return [check for check in self.checks if check.skipped]

    @property
    def failed(self) -> list[Check]:
        """The checks that alone are beyond three standard errors."""
        return [check for check in self.judged if not check.holds]

    @property
    def limit(self) -> float:
        """How many standard errors the worst check may be off: three for one, more for more (Šidák).

        All checks of a true theory stay within it in 99.73 % of the seeds, if they are independent.
        """
        drawn = max(sum(check.error > 0 for check in self.judged), 1)
        alone = 1 - 2 * NormalDist().cdf(-SIGMAS)
        return -NormalDist().inv_cdf((1 - alone ** (1 / drawn)) / 2)

    @property
    def holds(self) -> bool | None:
        """Whether the theory stands: every check is within `limit`; None where there was nothing to check."""
        return all(check.deviation <= self.limit for check in self.judged) if self.judged else None

    def to_dict(self) -> dict[str, Any]:
        """Return parameters, checks and their verdict, JSON-able."""
        return {
            "system": self.system,
            "parameters": dict(self.parameters),
            "holds": self.holds,
            "limit_sigmas": self.limit,
            "checks": [check.to_dict() for check in self.checks],
        }


def mean_and_error(values: NDArray[np.float64], axis: int = -1) -> tuple[Any, Any]:
    """Return the mean of independent values and its standard error.

    >>> mean, error = mean_and_error(np.array([1.0, 3.0]))
    >>> float(mean), float(error)
    (2.0, 1.0)
    """
    n = values.shape[axis]
    return values.mean(axis), values.std(axis, ddof=1) / math.sqrt(n)


def binomial_error(fraction: float, n: int) -> float:
    """Return the standard error of a predicted fraction among n, never below that of one among n."""
    return math.sqrt(max(fraction * (1 - fraction), 1 / n) / n)


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
