"""Ctrl-C and SIGTERM end a run at a step boundary; a second one ends it at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPING = "stopping after this step; once more to stop at once"


class Interrupts:
    """While entered, the signals are noted instead of ending the process; only in the main thread.

    A signal that the process ignores (a run started with nohup) stays ignored.

    Attributes:
        asked: name of the signal that asked to stop, if one did.
    """

    def __init__(self, tell: Callable[[str], object], *, at_once: bool = False) -> None:
        """Take what is called with a message at the first signal, from inside its handler.

        Args:
            tell: that.
            at_once: let the first signal end what `may_raise` allows, rather than the second.
        """
        self.asked: str | None = None
        self._tell, self._enough = tell, 1 if at_once else 2
        self._count = 0
        self._may_raise = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number).name
        self._count += 1
        if self._count >= self._enough and self._may_raise:
            raise self._stop()
        if self._count == 1:
            self._tell(STOPPING)

    def _stop(self) -> KeyboardInterrupt:
        word = "Ctrl-C" if self.asked == signal.SIGINT.name else self.asked
        return KeyboardInterrupt(f"a second signal to stop, {word}" if self._count > 1 else word)

    @contextlib.contextmanager
    def may_raise(self) -> Iterator[None]:
        """Let a second signal (or the first) raise KeyboardInterrupt in here, but not where files are written."""
        self._may_raise = True
        try:
            if self._count >= self._enough:
                raise self._stop()
            yield
        finally:
            self._may_raise = False
