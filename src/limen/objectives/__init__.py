"""Loss landscapes: a network on data (`Supervised`), and closed forms to test against (`Quadratic`)."""

from limen.objectives.quadratic import Quadratic
from limen.objectives.supervised import Supervised

__all__ = ["Quadratic", "Supervised"]
