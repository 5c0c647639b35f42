"""Several processes that train one network: the first writes the run, the others keep step with it."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Iterator

import torch
from torch import distributed

from limen.run import Experiment
from limen.types import End, Event, Mark, State


class First:
    """The first process: tells the others where to begin and, at every boundary, whether to go on.

    Args:
        device: of what is computed, for the backend's sake.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def begin(self, mark: Mark | None) -> None:
        """Tell where the run begins; None if nothing is left to do."""
        data = b""
        if mark is not None:
            buffer = io.BytesIO()
            content = {"step": mark.step, "state": mark.state.to_dict(), "memory": dict(mark.memory)}
            torch.save(content, buffer)
            data = buffer.getvalue()
        distributed.broadcast_object_list([data], src=0, device=self.device)

    def __call__(self, event: Event) -> None:
        """Hear an event of the run, which has been kept: the others may pass it too."""
        match event:
            case Mark():
                _told(self.device, go_on=True)
            case End():
                _told(self.device, go_on=False)


def accompany(experiment: Experiment) -> None:
    """Compute this process's share of every batch until the first process ends the run.

    Signals are left to the first, which ends at a boundary with a checkpoint.
    """
    device = experiment.objective.device
    with _deaf():
        told: list[bytes] = [b""]
        distributed.broadcast_object_list(told, src=0, device=device)
        if not told[0]:
            return
        content = torch.load(io.BytesIO(told[0]), weights_only=True, map_location="cpu")
        mark = Mark(content["step"], State.from_dict(content["state"], device), content["memory"])
        for event in experiment.run(mark):
            if isinstance(event, (Mark, End)) and not _told(device):
                return


def _told(device: torch.device, *, go_on: bool = False) -> bool:
    """Tell, or be told, whether to go on."""
    flag = torch.tensor([int(go_on)], device=device)
    distributed.broadcast(flag, src=0)
    return bool(flag.item())


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
