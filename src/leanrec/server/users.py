"""Users whose events are kept: in the order in which they came, within the time of a request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar
from weakref import WeakValueDictionary

from leanrec.server.batcher import IN_TIME
from leanrec.server.problems import Refusal
from leanrec.server.stores import HistoryStore, Noting, Past, Unavailable

_T = TypeVar("_T")
_log = logging.getLogger("leanrec.server")


class Users:
    """Histories of users, from a store. What the store does not do is a `Refusal`, also where its time is over.

    Args:
        store: Where they are kept.
    """

    def __init__(self, store: HistoryStore) -> None:
        self._store = store
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, user: str, due: float) -> AsyncIterator[None]:
        """Hold the lock of a user's events, so that requests change them in the order in which they came.

        Raises:
            Refusal: Earlier requests take too long.
        """
        turn = self._turns.setdefault(user, asyncio.Lock())
        try:
            async with asyncio.timeout(IN_TIME * left(due)):
                await turn.acquire()
        except TimeoutError as error:
            raise Refusal(
                "sessions-unavailable",
                "earlier events of this user are not stored yet; nothing was stored, try again later",
                1,
            ) from error
        try:
            yield
        finally:
            turn.release()

    async def append(self, user: str, texts: list[str], due: float, noting: Noting | None) -> int:
        """Store events, and return the number of all events of the user."""
        return await self._reached(self._store.append(user, texts, IN_TIME * left(due), noting))

    async def past(self, user: str, due: float) -> Past:
        """What is known of a user."""
        return await self._reached(self._store.past(user, IN_TIME * left(due)))

    async def forget(self, user: str, due: float) -> None:
        """Drop what is known of a user."""
        await self._reached(self._store.forget(user, IN_TIME * left(due)))

    async def _reached(self, call: Awaitable[_T]) -> _T:
        try:
            return await call
        except Unavailable as error:
            _log.error("sessions are unavailable: %s", error)
            raise Refusal(
                "sessions-unavailable",
                f"the store of sessions {error.reason}; requests with a history are answered",
                None if error.lasts else 1,
            ) from error


def left(due: float) -> float:
    """Seconds until a time, to the millisecond; 0 if it has passed."""
    return max(0.0, round(due - time.monotonic(), 3))
