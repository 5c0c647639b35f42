"""Loss landscapes: a network on data (`Supervised`), in training mode on minibatches (`Training`), and closed forms."""

from limen.objectives.quadratic import Quadratic
from limen.objectives.supervised import Supervised
from limen.objectives.training import Training

__all__ = ["Quadratic", "Supervised", "Training"]
