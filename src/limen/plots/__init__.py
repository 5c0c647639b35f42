"""Figures, drawn from the records of runs alone: no model, no data and no torch."""

from limen.analysis import Readable, Series
from limen.plots.curves import curves
from limen.plots.distance import departure

__all__ = ["Readable", "Series", "curves", "departure"]
