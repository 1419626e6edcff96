"""Writes to an SQLite file by one thread: all that wait share a transaction, and none waits longer than it may.

While another process holds the file, writes wait in this queue and not in SQLite. A write whose time is over is taken out of the
queue, and its caller is told that nothing was stored. That is certain, since the thread takes writes only once it holds the file.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from leanrec.server.stores.base import MOST_CALLS, NOTHING, UNKNOWN, Unavailable, crowded

_T = TypeVar("_T")
Change = Callable[[sqlite3.Connection], Any]
POLL = 0.02
"""Seconds between two attempts to lock a file that another process holds."""
TOGETHER = 256
"""Most writes of one transaction."""


@dataclass(slots=True, eq=False)
class _Write:
    change: Change
    done: asyncio.Future[Any]


class Writer:
    """Applies changes to a file, in the order in which they are asked for.

    Args:
        file: Where no statement waits for longer than `POLL`; closed with this.
    """

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file, self._thread = file, ThreadPoolExecutor(1, "leanrec-events")
        self._waiting: deque[_Write] = deque()
        self._lock, self._working = threading.Lock(), False

    async def write(self, change: Callable[[sqlite3.Connection], _T], within: float) -> _T:
        """Apply a change to the file, and return what it returns once that is stored.

        Args:
            change: Done in a transaction. If it raises, the file must be as before; others are not touched.
            within: Seconds.

        Raises:
            Unavailable: The time is over, too many wait, or SQLite fails.
        """
        if len(self._waiting) >= MOST_CALLS:
            raise crowded()
        one = _Write(change, asyncio.get_running_loop().create_future())
        with self._lock:
            self._waiting.append(one)
            if not self._working:
                self._working = True
                self._thread.submit(self._work)
        try:
            async with asyncio.timeout(within):
                return await one.done
        except TimeoutError as error:
            known = self._withdrawn(one)
            raise Unavailable(
                f"the file of sessions could not be written within {within:.3g} s",
                f"is held by another process; {NOTHING}" if known else f"takes too long; {UNKNOWN}",
            ) from error
        except asyncio.CancelledError:
            self._withdrawn(one)
            raise

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._thread.shutdown()
        self._file.close()

    def _withdrawn(self, one: _Write) -> bool:
        """Whether a write was taken back before it began."""
        with self._lock:
            try:
                self._waiting.remove(one)
            except ValueError:
                return False
            return True

    def _work(self) -> None:
        """On the thread: write until nothing waits."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._working = False
                    return
            try:
                self._file.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                    self._tell([(one, _failed(error, NOTHING)) for one in self._taken()])
                continue
            self._tell(self._written(self._taken()))

    def _taken(self) -> list[_Write]:
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]

    def _written(self, writes: list[_Write]) -> list[tuple[_Write, Any]]:
        """Apply writes inside of a transaction that has begun, and return what came of each."""
        results: list[tuple[_Write, Any]] = []
        kept = NOTHING
        try:
            for one in writes:
                try:
                    results.append((one, one.change(self._file)))
                except sqlite3.Error:
                    raise
                except Exception as error:
                    results.append((one, error))
            kept = UNKNOWN
            self._file.execute("COMMIT")
            return results
        except sqlite3.Error as error:
            if self._file.in_transaction:
                self._file.rollback()
            return [(one, _failed(error, kept)) for one in writes]

    def _tell(self, results: list[tuple[_Write, Any]]) -> None:
        if results:
            results[0][0].done.get_loop().call_soon_threadsafe(_told, results)


def _failed(error: sqlite3.Error, kept: str) -> Unavailable:
    return Unavailable(f"the file of sessions answers: {error}", f"fails; {kept}")


def _told(results: list[tuple[_Write, Any]]) -> None:
    """On the loop."""
    for one, result in results:
        if one.done.done():
            continue
        if isinstance(result, Exception):
            one.done.set_exception(result)
        else:
            one.done.set_result(result)
