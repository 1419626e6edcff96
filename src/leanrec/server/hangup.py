"""Catch SIGHUP, which asks a server for a reload, from its first moment to its last; by default the signal would end the process.

This module imports nothing of leanrec, so that the handler is in place before the rest is imported, which takes a second.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


def ignore_hangup() -> None:
    """Ignore SIGHUP until a `Hangup` catches it: a model that was not opened yet need not be reloaded."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


class Hangup:
    """Catches SIGHUP inside of a ``with`` block. A signal that comes before `call` is kept for it."""

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
        """Call this at every SIGHUP from now on, and at once if one has come before."""
        self._then = then
        if self._came:
            then()

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        if self._then is not None:
            self._then()
