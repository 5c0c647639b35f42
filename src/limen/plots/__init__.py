"""Figures, drawn from the records of runs alone: no model, no data and no torch."""

from limen.plots.curves import curves
from limen.plots.source import Readable, Series

__all__ = ["Readable", "Series", "curves"]
