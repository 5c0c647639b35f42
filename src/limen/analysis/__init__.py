"""What stored runs say together: distances, clocks, crossings. Numpy alone: no model, no data and no torch."""

from limen.analysis.clock import CLOCKS, clock
from limen.analysis.crossing import Crossing, crossing
from limen.analysis.distance import Apart, apart, descent_first, obstacle, projected, recorded
from limen.analysis.readable import Array, Readable, Series

__all__ = [
    "CLOCKS",
    "Apart",
    "Array",
    "Crossing",
    "Readable",
    "Series",
    "apart",
    "clock",
    "crossing",
    "descent_first",
    "obstacle",
    "projected",
    "recorded",
]
