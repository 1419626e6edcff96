"""SIGHUP from the first moment of a server to its last: it asks for a reload, and never ends the process.

It imports nothing of leanrec, so that it is in place before the rest takes its second to be imported.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


def ignore() -> None:
    """Let SIGHUP pass until there is a `Hangup`: what was not read yet need not be read anew."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


class Hangup:
    """Takes SIGHUP while the block lasts. One that comes before somebody wants to be called is kept for then."""

    def __init__(self) -> None:
        self._came, self._then = False, None
        self._before: object = None

    def __enter__(self) -> Hangup:
        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGHUP, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGHUP, self._before)  # pyright: ignore[reportArgumentType]

    def call(self, then: Callable[[], object]) -> None:
        """Call this at every SIGHUP from now on, and at once if there was one."""
        self._then = then
        if self._came:
            then()

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        if self._then is not None:
            self._then()
