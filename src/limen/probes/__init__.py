"""Measurements: one file a probe, each exporting `make(*, …) -> Probe` (see CONTRIBUTING.md)."""

from limen.probes.distance import Distance
from limen.probes.eigs import Eigs, SharpnessTracker
from limen.probes.iterates import Iterates
from limen.probes.test import Test
from limen.probes.train import Train

__all__ = ["Distance", "Eigs", "Iterates", "SharpnessTracker", "Test", "Train"]
