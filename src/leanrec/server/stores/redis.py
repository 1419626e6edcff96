"""Histories in Redis, which many servers share. What survives the end of Redis depends on how Redis is set up to persist.

Two keys a user, written by one script: ``leanrec:{USER}:items``, a list, and ``leanrec:{USER}:events``, a count. The same script
notes events in the stream ``leanrec:notes`` where that is asked for.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

from leanrec.core.errors import ConfigError
from leanrec.server.stores.base import (
    KEPT,
    MOST_CALLS,
    NOTED,
    NOTES,
    UNKNOWN,
    HistoryStore,
    Note,
    Noting,
    Past,
    Unavailable,
    crowded,
    foreign,
    no_notes,
)

_T = TypeVar("_T")
_CONNECTIONS = 16
"""Most connections to Redis at once."""
_DAYS = 30
"""Days without events after which a user is forgotten."""
_APPEND = f"""
local function is(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == kind or found == 'none'
end
if KEYS[3] and not is(KEYS[3], 'stream') then
  return -1
end
local known = is(KEYS[1], 'list') and is(KEYS[2], 'string') and (redis.call('GET', KEYS[2]) or '0')
if not known or not string.find(known, '^%d+$') or #known > 15 then
  return false
end
redis.call('RPUSH', KEYS[1], unpack(ARGV, 5))
redis.call('LTRIM', KEYS[1], {-KEPT}, -1)
local events = redis.call('INCRBY', KEYS[2], ARGV[1])
if KEYS[3] then
  local new = math.min(#ARGV - 4, {NOTED})
  local note = {{'at', ARGV[4], 'new', new}}
  for place, item in ipairs(redis.call('LRANGE', KEYS[1], -(ARGV[2] + new), -1)) do
    table.insert(note, place)
    table.insert(note, item)
  end
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', unpack(note))
end
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, {_DAYS * 86400})
end
return events
"""
"""Adds items, all or none; nothing is changed if a key holds something else. With a third key they are noted there.

Arguments: how many events they are, how many items are noted before them, how many notes are kept, the time, and the items.
"""
_NOTES = "leanrec:notes"


class RedisStore(HistoryStore):
    """Keeps histories in Redis. It connects when it is first asked, and again when a connection is lost.

    Args:
        url: As the client of Redis reads it.

    Raises:
        ConfigError: The client is not installed, or the address cannot be read.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis
            from redis import asyncio as client
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError as error:
            raise ConfigError(
                "expected the package redis for --sessions redis://, got none; pip install 'leanrec[redis]'"
            ) from error
        self._errors = (redis.RedisError, OSError)
        try:
            # a command is sent once: sent again after a lost reply, it might be done twice
            pool = client.BlockingConnectionPool.from_url(
                url, max_connections=_CONNECTIONS, timeout=None, retry=Retry(NoBackoff(), 0)
            )
        except ValueError:  # says parts of the address, which may be a password
            raise ConfigError(
                "expected --sessions redis://USER:PASSWORD@HOST:PORT/DB, each with its special characters as %XX, "
                "got an address of Redis that cannot be read"
            ) from None
        self._client: Any = client.Redis.from_pool(pool)
        self._append: Any = self._client.register_script(_APPEND)
        self._asking = 0

    async def append(self, user: str, items: list[str], within: float, noting: Noting | None = None) -> int:
        """As `HistoryStore.append`; if the reply of Redis is lost, the error says that the events may or may not be stored."""
        keys = _names(user) if noting is None else (*_names(user), _NOTES)
        before, kept = noting or (0, 0)
        call = self._append(keys=keys, args=[len(items), before, kept, time.time(), *items[-KEPT:]])
        events = await self._reached(call, within, f"cannot be reached; {UNKNOWN}")
        if events is None:
            raise foreign(user, "keys of other types")
        if events < 0:
            raise no_notes(f"the key {_NOTES} has another type")
        return events

    async def notes(self, after: str, within: float) -> list[tuple[str, Note]]:
        asked = self._client.xrange(_NOTES, min=f"({after}" if after else "-", count=NOTES)
        try:
            return [(mark.decode(), _note(fields)) for mark, fields in await self._reached(asked, within)]
        except (KeyError, ValueError) as error:
            raise no_notes(repr(error)) from error

    async def past(self, user: str, within: float) -> Past:
        names = _names(user)
        asked = self._client.pipeline(transaction=True).get(names[1]).lrange(names[0], -KEPT, -1)
        events, items = await self._reached(asked.execute(raise_on_error=False), within)
        for error in (events, items):
            if isinstance(error, self._errors):
                told = str(error)
                raise foreign(user, told) if told.startswith("WRONGTYPE") else Unavailable(f"Redis answers: {told}")
        try:
            if not re.fullmatch(rb"\d{1,15}", events or b"0"):
                raise foreign(user, f"{events!r:.60} events")
            return Past(int(events or 0), [item.decode() for item in items])
        except UnicodeDecodeError as error:
            raise foreign(user, error) from error

    async def forget(self, user: str, within: float) -> None:
        await self._reached(self._client.delete(*_names(user)), within, f"cannot be reached; {UNKNOWN}")

    async def close(self) -> None:
        await self._client.aclose()

    async def _reached(self, call: Awaitable[_T], within: float, reason: str = "cannot be reached") -> _T:
        """Await a reply of Redis.

        Raises:
            Unavailable: With this reason, if there is none in time.
        """
        if self._asking >= MOST_CALLS:
            raise crowded()
        self._asking += 1
        try:
            async with asyncio.timeout(within):
                return await call
        except TimeoutError as error:
            raise Unavailable(f"Redis does not reply within {within:.3g} s", reason) from error
        except self._errors as error:
            raise Unavailable(f"Redis answers: {error}", reason) from error
        finally:
            self._asking -= 1


def _note(fields: dict[bytes, bytes]) -> Note:
    items = [fields[str(place).encode()].decode() for place in range(1, len(fields) - 1)]
    return Note(float(fields[b"at"]), items, int(fields[b"new"]))


def _names(user: str) -> tuple[str, str]:
    return f"leanrec:{{{user}}}:items", f"leanrec:{{{user}}}:events"
