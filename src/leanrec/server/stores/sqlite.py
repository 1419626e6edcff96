"""Histories in an SQLite file: they outlive the process, and processes of one machine share them.

The journal is written ahead and synchronised at checkpoints: an event that was accepted survives the end of the process, however it
ends; the newest ones may be lost when the machine itself goes down.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from leanrec.core.errors import ConfigError
from leanrec.server.stores.base import KEPT, Past, Unavailable

T = TypeVar("T")
BUSY = 5.0
"""Seconds that another process may hold the file."""


class SqliteStore:
    """See `stores.base.Store`. One thread speaks to the file.

    Args:
        path: Of the file; made if there is none.

    Raises:
        ConfigError: It cannot be opened, or is something else.
    """

    def __init__(self, path: str) -> None:
        self._thread = ThreadPoolExecutor(1, "leanrec-sessions")
        try:
            self._file = self._thread.submit(_opened, path).result()
        except sqlite3.Error as error:
            self._thread.shutdown()
            raise ConfigError(f"cannot keep sessions in {path}: {error}; name another file with --sessions") from error

    async def append(self, user: str, items: list[str]) -> int:
        """See `Store.append`."""

        def write() -> int:
            with self._file:  # all or nothing
                self._file.execute("BEGIN IMMEDIATE")
                before = self._read(user)
                after = msgspec.json.encode([*before.items, *items][-KEPT:])
                total = before.events + len(items)
                self._file.execute("REPLACE INTO users VALUES (?, ?, ?)", (user, total, after))
                return total

        return await self._run(write)

    async def past(self, user: str) -> Past:
        """See `Store.past`."""
        return await self._run(lambda: self._read(user))

    async def forget(self, user: str) -> None:
        """See `Store.forget`."""

        def write() -> None:
            with self._file:
                self._file.execute("DELETE FROM users WHERE user = ?", (user,))

        await self._run(write)

    async def check(self) -> None:
        """See `Store.check`."""
        await self._run(lambda: self._file.execute("SELECT 1 FROM users LIMIT 1").fetchone())

    async def close(self) -> None:
        """See `Store.close`."""
        await self._run(self._file.close)
        self._thread.shutdown()

    def _read(self, user: str) -> Past:
        row = self._file.execute("SELECT events, items FROM users WHERE user = ?", (user,)).fetchone()
        return Past(row[0], msgspec.json.decode(row[1], type=list[str])) if row else Past(0, [])

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except sqlite3.Error as error:
            raise Unavailable(f"the file of sessions answers: {error}") from error


def _opened(path: str) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    file.execute("PRAGMA journal_mode=WAL")
    file.execute("PRAGMA synchronous=NORMAL")
    file.execute("CREATE TABLE IF NOT EXISTS users (user TEXT PRIMARY KEY, events INTEGER, items BLOB) WITHOUT ROWID")
    file.execute("SELECT user, events, items FROM users LIMIT 1")
    return file
