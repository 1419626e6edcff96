"""Stores of users' histories: in memory, in an SQLite file, or in Redis, chosen by an address."""

from __future__ import annotations

import re

from leanrec.core.errors import ConfigError
from leanrec.server.stores.base import HistoryStore, Note, Noting, Past, Unavailable
from leanrec.server.stores.memory import MemoryStore

__all__ = ["HistoryStore", "MemoryStore", "Note", "Noting", "Past", "Unavailable", "open_store"]


def open_store(address: str) -> HistoryStore:
    """The store at ``memory``, ``sqlite:FILE`` or ``redis://HOST:PORT/DB``.

    Raises:
        ConfigError: The address is none of these, the file cannot be used, or the client of Redis is not installed.
    """
    if address == "memory":
        return MemoryStore()
    if address.startswith("sqlite:") and len(address) > len("sqlite:"):
        from leanrec.server.stores.sqlite import SqliteStore

        return SqliteStore(address.removeprefix("sqlite:"))
    if address.startswith(("redis://", "rediss://", "unix://")):
        from leanrec.server.stores.redis import RedisStore

        return RedisStore(address)
    raise ConfigError(f"expected --sessions memory, sqlite:FILE or redis://HOST:PORT/DB, got {_shown(address)}")


def _shown(address: str) -> str:
    """An address that cannot be used, as a message may show it: without what may be a password."""
    if re.fullmatch(r"\w*|sqlite:|[a-z]+://[\w.-]*(:\d+)?(/\d*)?", address):
        return repr(address)
    return f"{len(address)} characters that are not shown, for they may hold a password"
