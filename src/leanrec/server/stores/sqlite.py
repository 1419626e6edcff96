"""Histories in an SQLite file: they outlive the process, and processes of one machine share them.

The file has a write-ahead journal that is synchronised at checkpoints: stored events survive the end of the process, however it
ends, but the newest ones may be lost when the machine goes down. Reads have a connection of their own, and with such a journal they
do not wait for writes.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from leanrec.core.errors import ConfigError
from leanrec.server.stores.base import (
    KEPT,
    MOST_CALLS,
    NOTES,
    HistoryStore,
    Note,
    Noting,
    Past,
    Unavailable,
    crowded,
    foreign,
    no_notes,
)
from leanrec.server.stores.writer import POLL, Writer

_A = TypeVar("_A")
_T = TypeVar("_T")
_OPENING = 5.0
"""Longest wait in seconds for another process that holds the file, while opening it."""
_READING = 0.25
"""Longest wait in seconds of a read for another process, which can only block it while that opens or closes the file."""
_COLUMNS = [("user", 1), ("events", 0), ("items", 0)]
"""Of the table ``users``, and whether they are its key."""


class SqliteStore(HistoryStore):
    """Keeps histories in an SQLite file. One thread reads from the file, another one writes to it.

    Args:
        path: Of the file; made if there is none.

    Raises:
        ConfigError: It cannot be opened, or is something else.
    """

    def __init__(self, path: str) -> None:
        self._reader, self._reading = ThreadPoolExecutor(1, "leanrec-sessions"), 0
        try:
            self._writer = Writer(_opened(path))
            self._file = _connected(path, _READING)
            self._file.text_factory = bytes  # as for writing
        except sqlite3.Error as error:
            raise ConfigError(f"cannot keep sessions in {path}: {error}; name another file with --sessions") from error

    async def append(self, user: str, items: list[str], within: float, noting: Noting | None = None) -> int:
        def write(file: sqlite3.Connection) -> int:
            before = _past(file, user)
            after = [*before.items, *items][-KEPT:]
            total = before.events + len(items)
            file.execute("REPLACE INTO users VALUES (?, ?, ?)", (user, total, msgspec.json.encode(after)))
            if noting is not None:
                _note(file, noting.note(after, len(items)), noting.kept)
            return total

        return await self._writer.write(write, within)

    async def notes(self, after: str, within: float) -> list[tuple[str, Note]]:
        return await self._read(_notes, int(after or 0), within)

    async def past(self, user: str, within: float) -> Past:
        return await self._read(_past, user, within)

    async def _read(self, read: Callable[[sqlite3.Connection, _A], _T], what: _A, within: float) -> _T:
        """Read on the thread for that."""
        if self._reading >= MOST_CALLS:
            raise crowded()
        self._reading += 1
        try:
            async with asyncio.timeout(within):
                return await asyncio.get_running_loop().run_in_executor(self._reader, read, self._file, what)
        except TimeoutError as error:
            raise Unavailable(f"the file of sessions is not read within {within:.3g} s", "takes too long") from error
        except sqlite3.Error as error:
            raise Unavailable(f"the file of sessions answers: {error}") from error
        finally:
            self._reading -= 1

    async def forget(self, user: str, within: float) -> None:
        await self._writer.write(lambda file: file.execute("DELETE FROM users WHERE user = ?", (user,)), within)

    async def close(self) -> None:
        await asyncio.to_thread(self._reader.shutdown)
        await asyncio.to_thread(self._writer.close)
        self._file.close()


def _past(file: sqlite3.Connection, user: str) -> Past:
    row = file.execute("SELECT events, items FROM users WHERE user = ?", (user,)).fetchone()
    if row is None:
        return Past(0, [])
    events, items = row
    try:
        known = msgspec.json.decode(items, type=list[str])
    except (msgspec.MsgspecError, TypeError, UnicodeError) as error:
        raise foreign(user, error) from error
    if not isinstance(events, int) or not 0 <= events < 2**62:
        raise foreign(user, f"{events!r:.60} events")
    return Past(events, known[-KEPT:])


def _note(file: sqlite3.Connection, note: Note, kept: int) -> None:
    number = file.execute("INSERT INTO notes (note) VALUES (?)", (msgspec.json.encode(note),)).lastrowid or 0
    file.execute("DELETE FROM notes WHERE number <= ?", (number - kept,))


def _notes(file: sqlite3.Connection, after: int) -> list[tuple[str, Note]]:
    found = file.execute("SELECT number, note FROM notes WHERE number > ? ORDER BY number LIMIT ?", (after, NOTES))
    try:
        return [(str(number), msgspec.json.decode(note, type=Note)) for number, note in found]
    except (msgspec.MsgspecError, TypeError, UnicodeError) as error:
        raise no_notes(error) from error


def _connected(path: str, patience: float) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)


def _opened(path: str) -> sqlite3.Connection:
    """A connection for writing, to a file with our table."""
    file = _connected(path, _OPENING)
    try:
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("PRAGMA synchronous=NORMAL")
        file.execute(
            "CREATE TABLE IF NOT EXISTS users (user TEXT PRIMARY KEY, events INTEGER, items BLOB) WITHOUT ROWID"
        )
        file.execute("CREATE TABLE IF NOT EXISTS notes (number INTEGER PRIMARY KEY AUTOINCREMENT, note BLOB)")
        found = [(name, key) for _, name, _, _, _, key in file.execute("PRAGMA table_info(users)")]
        if found != _COLUMNS:
            raise sqlite3.DatabaseError(
                f"expected a table users with the columns user (its key), events, items, got {', '.join(name for name, _ in found)}"
            )
        file.execute(f"PRAGMA busy_timeout={int(POLL * 1000)}")
        file.text_factory = bytes  # text that is not UTF-8 is told apart by whoever reads it
    except sqlite3.Error:
        file.close()
        raise
    return file
