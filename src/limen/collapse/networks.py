"""What an objective's flat parameters are the parameters of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from limen.errors import InputError
from limen.objectives import Supervised
from limen.objectives.training import Training
from limen.types import Objective, Point


@dataclass(frozen=True)
class Network:
    """A module behind an objective.

    Attributes:
        module: the network; not to be changed.
        unflatten: flat parameters (p,) to parameters by name.
        example: inputs seen at a point (n, …).
    """

    module: nn.Module
    unflatten: Callable[[Tensor], dict[str, Tensor]]
    example: Callable[[Point], Tensor]


@functools.singledispatch
def network_of(objective: Objective) -> Network:
    """Return the network of an objective.

    Raises:
        InputError: it has none.
    """
    raise InputError(
        f"neurons are counted in a network, and {type(objective).__name__} is none: take Supervised or Training."
    )


@network_of.register
def _(objective: Supervised) -> Network:
    return Network(objective.module, objective.unflatten, lambda point: objective.inputs[:2])


@network_of.register
def _(objective: Training) -> Network:
    def example(point: Point) -> Tensor:
        if point.batch is None:
            raise InputError("the network sees no batch at this point: give the experiment a stream.")
        return objective.place(point.batch.inputs[:2])

    return Network(objective.training.module, objective.unflatten, example)
