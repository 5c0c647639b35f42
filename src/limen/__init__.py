"""limen: a laboratory for neural-network training dynamics.

Everything here is imported when it is first used, so that `import limen` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Batch": "limen.types",
    "Dynamics": "limen.types",
    "Objective": "limen.types",
    "Point": "limen.types",
    "Probe": "limen.types",
    "Record": "limen.types",
    "Need": "limen.types",
    "Schedule": "limen.types",
    "State": "limen.types",
    "LimenError": "limen.errors",
    "Quadratic": "limen.objectives",
    "Supervised": "limen.objectives",
    "Training": "limen.objectives",
    "Minibatches": "limen.streams",
    "SGD": "limen.dynamics.sgd",
    "Adam": "limen.dynamics.adam",
    "GD": "limen.dynamics.gd",
    "Nesterov": "limen.dynamics.nesterov",
    "Polyak": "limen.dynamics.polyak",
    "Eigs": "limen.probes",
    "Iterates": "limen.probes",
    "SharpnessTracker": "limen.probes",
    "Test": "limen.probes",
    "Train": "limen.probes",
    "lanczos_audit": "limen.linalg.audit",
    "top_eigenpairs": "limen.linalg.krylov",
    "Experiment": "limen.run",
    "Goals": "limen.run",
    "Run": "limen.store",
    "find_runs": "limen.store",
    "open_run": "limen.store",
    "open_runs": "limen.catalogue",
    "record": "limen.store",
    "curves": "limen.plots",
}

if TYPE_CHECKING:
    from limen.catalogue import open_runs as open_runs
    from limen.dynamics.adam import Adam as Adam
    from limen.dynamics.gd import GD as GD
    from limen.dynamics.nesterov import Nesterov as Nesterov
    from limen.dynamics.polyak import Polyak as Polyak
    from limen.dynamics.sgd import SGD as SGD
    from limen.errors import LimenError as LimenError
    from limen.linalg.audit import lanczos_audit as lanczos_audit
    from limen.linalg.krylov import top_eigenpairs as top_eigenpairs
    from limen.objectives import Quadratic as Quadratic
    from limen.objectives import Supervised as Supervised
    from limen.objectives import Training as Training
    from limen.plots.curves import curves as curves
    from limen.probes import Eigs as Eigs
    from limen.probes import Iterates as Iterates
    from limen.probes import SharpnessTracker as SharpnessTracker
    from limen.probes import Test as Test
    from limen.probes import Train as Train
    from limen.run import Experiment as Experiment
    from limen.run import Goals as Goals
    from limen.store import Run as Run
    from limen.store import find_runs as find_runs
    from limen.store import open_run as open_run
    from limen.store import record as record
    from limen.streams import Minibatches as Minibatches
    from limen.types import Batch as Batch
    from limen.types import Dynamics as Dynamics
    from limen.types import Need as Need
    from limen.types import Objective as Objective
    from limen.types import Point as Point
    from limen.types import Probe as Probe
    from limen.types import Record as Record
    from limen.types import Schedule as Schedule
    from limen.types import State as State

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'limen' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
