"""Ensembles: runs that differ only in numbers (lr, beta, seed) advance together as one batched computation.

`groups` says which of many specs may, `launch_together` runs them. Each run keeps a folder of its own, in the form
that the single command writes; its numbers agree with that command's to rounding, not to the last bit.
"""

from typing import TYPE_CHECKING, Any

from limen.ensemble.grouping import MODES, groups

if TYPE_CHECKING:
    from limen.ensemble.launch import launch_together

__all__ = ["MODES", "groups", "launch_together"]


def __getattr__(name: str) -> Any:
    if name != "launch_together":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from limen.ensemble.launch import launch_together

    return launch_together
