"""All the runs in a folder as one table: `open_runs` for Python, `Catalogue` for commands.

The truth is what lies in the run folders; the index beside them only saves reading them again. A row has

* `run`, `status`, `why`, `error`: the folder relative to the root, how the run stands, and what cannot be read,
* the words of its spec, flat (`lr`, `data.n`),
* `steps` done of `max_steps`, `step` last recorded, `threshold`, `started`, `ended`,
* the last value of each recorded number (`train_loss`; `flow/distance` of a branch),
* `sharpness`, the last top eigenvalue; `crossing`, the first measured step above the threshold; `edge`, the mean
  of sharpness/threshold over the last quarter of the measurements.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limen.catalogue.index import Catalogue
    from limen.catalogue.runs import Runs, open_runs

__all__ = ["Catalogue", "Runs", "open_runs"]

_HOMES = {"Catalogue": "index", "Runs": "runs", "open_runs": "runs"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
