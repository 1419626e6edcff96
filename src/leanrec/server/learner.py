"""Brings what a model has learned up to date with the store: when it is opened, and again every second.

All servers of a store read the same notes, so that each knows what the others were told, about a second later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from leanrec.server.metrics import Metrics
from leanrec.server.stores import HistoryStore, Unavailable
from leanrec.server.stores.base import NOTES

if TYPE_CHECKING:
    from leanrec.server.learning import Learning
    from leanrec.server.live import Live

_EVERY, _WITHIN = 1.0, 5.0
"""Seconds between two looks into the store, and for one look."""

_log = logging.getLogger("leanrec.server")


class Learner:
    """Reads notes of events from a store, and gives them to the model that is served.

    Args:
        store: Where they are.
    """

    def __init__(self, store: HistoryStore) -> None:
        self._store, self._turn = store, asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def open(self, models: Callable[[], Iterable[Live]]) -> None:
        """Bring all models up to date, and go on doing so."""
        for live in models():
            await self.catch_up(live)
        self._task = asyncio.create_task(self._go_on(models))

    async def catch_up(self, live: Live) -> None:
        """Add what a model has not learned yet, if it learns. What cannot be read is read later."""
        learning = live.learning
        if learning is None:
            return
        async with self._turn:
            try:
                while notes := await self._store.notes(learning.mark, _WITHIN):
                    await asyncio.to_thread(learning.add, notes)
                    if len(notes) < NOTES:
                        break
            except Unavailable as error:
                _log.warning("cannot learn from events now: %s", error)

    def measured(self, metrics: Metrics, live: Callable[[], Live]) -> None:
        """Show how much has been learned, and how often it shows."""

        def gauge(name: str, about: str, read: Callable[[Learning], float]) -> None:
            def value() -> float:
                learning = live().learning
                return 0 if learning is None else read(learning)

            metrics.gauge(f"learned_{name}", about, value)

        gauge("rows", "Items of which something was learned.", lambda learning: learning.growing.rows)
        gauge("entries", "Followers of these items.", lambda learning: learning.growing.entries)
        gauge("bytes", "Memory of these.", lambda learning: learning.growing.bytes)
        gauge("events", "Events that the model has learned from.", lambda learning: learning.events)
        gauge(
            "share",
            "Share of the model's answers with an item that was learned to follow.",
            lambda learning: learning.growing.lifted / max(learning.growing.answers, 1),
        )

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _go_on(self, models: Callable[[], Iterable[Live]]) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            try:
                for live in models():
                    await self.catch_up(live)
            except Exception:
                _log.exception("cannot learn from events now")
