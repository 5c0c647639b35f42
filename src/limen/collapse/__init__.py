"""Stochastic collapse: what noise leaves of a network's neurons, and whether it draws them onto invariant sets."""

from limen.collapse.counts import GROUPINGS, Counts, Grouping, count
from limen.collapse.lyapunov import Exponents, normal_exponents
from limen.collapse.rank import effective_rank
from limen.collapse.sets import NormalSpaces, PermutationSets, SignSets

__all__ = [
    "GROUPINGS",
    "Counts",
    "Exponents",
    "Grouping",
    "NormalSpaces",
    "PermutationSets",
    "SignSets",
    "count",
    "effective_rank",
    "normal_exponents",
]
