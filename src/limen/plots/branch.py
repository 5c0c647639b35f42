"""A trajectory that was integrated beside a run, seen as a run of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limen.analysis import Readable, Series


@dataclass(frozen=True)
class Branch:
    """The flow in a run made with --track_flow; what it recorded lies under `<name>/`.

    Attributes:
        run: the run.
        name: of the branch.
    """

    run: Readable
    name: str = "flow"

    @property
    def folder(self) -> Path:
        """The run's folder, and the name of the branch."""
        return self.run.folder / self.name

    @property
    def spec(self) -> Mapping[str, Any]:
        """The run's words, as those of a flow."""
        return {**self.run.spec, "command": "flow"}

    @property
    def info(self) -> Mapping[str, Any]:
        """What was noted of the run."""
        return self.run.info

    @property
    def status(self) -> str:
        """How the run stands: the flow ends where the run does, and need not have diverged with it."""
        return "finished" if str(self.run.status) == "diverged" else str(self.run.status)

    @property
    def threshold(self) -> float | None:
        """A flow has none."""
        return None

    def names(self) -> Sequence[str]:
        """Return the names of what was recorded of the branch."""
        prefix = f"{self.name}/"
        return [name.removeprefix(prefix) for name in self.run.names() if name.startswith(prefix)]

    def series(self, name: str) -> Series:
        """Return the records of `name`."""
        return self.run.series(f"{self.name}/{name}")
