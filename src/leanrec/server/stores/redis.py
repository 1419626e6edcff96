"""Histories in Redis: many servers share them. What survives the end of Redis is what its own persistence keeps.

Two keys a user, written in one transaction: ``leanrec:{USER}:items``, a list, and ``leanrec:{USER}:events``, a count.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar, cast

from leanrec.core.errors import ConfigError
from leanrec.server.stores.base import KEPT, Past, Unavailable

T = TypeVar("T")
SECONDS = 0.5
"""Longest time that Redis may take for anything."""
DAYS = 30
"""A user without events for so long is forgotten."""


class RedisStore:
    """See `stores.base.Store`. It connects when it is first asked, and again when a connection is lost.

    Args:
        url: As the client of Redis reads it.

    Raises:
        ConfigError: The client is not installed, or the address cannot be read.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis
            from redis import asyncio as client
        except ImportError as error:
            raise ConfigError(
                "expected the package redis for --sessions redis://, got none; pip install 'leanrec[redis]'"
            ) from error
        self._errors = (redis.RedisError, OSError)
        try:
            self._client: Any = client.Redis.from_url(
                url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS, decode_responses=True
            )
        except ValueError as error:
            raise ConfigError(f"expected --sessions redis://HOST:PORT/DB, got {url!r}: {error}") from error

    async def append(self, user: str, items: list[str]) -> int:
        """See `Store.append`. Where the reply of Redis is lost it is not known whether the events are kept."""
        names = _names(user)
        write = self._client.pipeline(transaction=True)
        write.incrby(names[1], len(items)).rpush(names[0], *items).ltrim(names[0], -KEPT, -1)
        for name in names:
            write.expire(name, DAYS * 86400)
        return int((await self._reached(write.execute()))[0])

    async def past(self, user: str) -> Past:
        """See `Store.past`."""
        names = _names(user)
        events, items = await self._reached(
            self._client.pipeline(transaction=True).get(names[1]).lrange(names[0], 0, -1).execute()
        )
        return Past(int(events or 0), items)

    async def forget(self, user: str) -> None:
        """See `Store.forget`."""
        await self._reached(self._client.delete(*_names(user)))

    async def check(self) -> None:
        """See `Store.check`."""
        await self._reached(self._client.ping())

    async def close(self) -> None:
        """See `Store.close`."""
        await self._client.aclose()

    async def _reached(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except self._errors as error:
            raise Unavailable(f"Redis answers: {error}") from error


def _names(user: str) -> tuple[str, str]:
    return cast("tuple[str, str]", tuple(f"leanrec:{{{user}}}:{what}" for what in ("items", "events")))
