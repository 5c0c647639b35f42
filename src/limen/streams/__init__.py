"""Which examples each step sees: pure functions of the step, on the device of the data."""

from limen.streams.minibatches import Minibatches

__all__ = ["Minibatches"]
