"""Records sent to Weights & Biases as well, for those who ask for it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limen.errors import InputError
from limen.types import End, Event, Record


class WandbLog:
    """Hears the events of a run and passes its numbers on.

    Args:
        asked: project, entity, name, group and tags.
        folder: of the run, which names it where no name is given.
        spec: what wandb keeps as the configuration.

    Raises:
        InputError: wandb is not installed.
    """

    def __init__(self, asked: Mapping[str, Any], folder: Path, spec: Mapping[str, Any]) -> None:
        try:
            wandb = importlib.import_module("wandb")
        except ModuleNotFoundError:
            raise InputError(
                "loggers.wandb: the package wandb is not installed. Install it, or leave loggers.wandb out: log.pt "
                "and scalars.jsonl hold the same numbers."
            ) from None
        given = {key: value for key, value in asked.items() if value is not None}
        name = {"name": f"{folder.parent.name}/{folder.name}"} | given
        self._run = wandb.init(dir=str(folder), config=dict(spec), **name)

    def __call__(self, event: Event) -> None:
        """Pass on a record's numbers."""
        match event:
            case Record(step=step, values=values):
                numbers = {key: value for key, value in values.items() if isinstance(value, (int, float))}
                if numbers:
                    self._run.log(numbers, step=step)
            case End():
                self._run.finish()
