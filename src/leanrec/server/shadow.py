"""A model beside the one that answers: it is asked for a share of the requests, and nobody sees its answers, only figures."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import CollectorRegistry, Counter, Histogram

from leanrec.core.errors import LeanrecError
from leanrec.engine.events import Event
from leanrec.server.live import Live, as_asked
from leanrec.server.metrics import SECONDS
from leanrec.server.problems import Refusal
from leanrec.server.schemas import RecommendOptions

_MOST = 2
"""Most requests at a time: one that is answered, and one behind it."""
_log = logging.getLogger("leanrec.server")

Given = Callable[[Live], Sequence[Sequence[str | Event]]]
"""The histories of a request, as a model reads them."""


class Figures:
    """What both models did, in the metrics for as long as they are compared.

    Args:
        registry: Of the server.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        own = {"registry": registry, "namespace": "leanrec"}
        tenths = [tenth / 10 for tenth in range(11)]
        self.overlap = Histogram(
            "shadow_overlap", "Share of a user's k items that both models gave.", buckets=tenths, **own
        )
        self.seconds = Histogram(
            "shadow_seconds", "Time to answer a request alone.", ("model",), buckets=SECONDS, **own
        )
        self.refused = Counter("shadow_refused", "Users that a model does not answer.", ("model",), **own)
        self.requests = Counter("shadow_requests", "Requests of the share, asked or dropped.", ("result",), **own)
        self._registry = registry
        for metric, labels in (
            (self.seconds, ("answering", "shadow")),
            (self.refused, ("answering", "shadow")),
            (self.requests, ("asked", "dropped")),
        ):
            for label in labels:
                metric.labels(label)  # 0 from the beginning

    def end(self) -> None:
        """Take them out of the metrics."""
        for one in (self.overlap, self.seconds, self.refused, self.requests):
            self._registry.unregister(one)


class Shadow:
    """Asks two models for the same, one request after the other on a thread of its own, after the client has its answer.

    Both are asked alone, so that their times can be compared. While one request waits, others are dropped.

    Args:
        live: The model beside the one that answers.
        share: Of the requests, 0 to 1.
        registry: Of the server's metrics.
    """

    def __init__(self, live: Live, share: float, registry: CollectorRegistry) -> None:
        self.live, self.share = live, share
        self._registry, self._figures = registry, Figures(registry)
        self._thread = ThreadPoolExecutor(1, "leanrec-shadow")
        self._tasks: set[asyncio.Task[None]] = set()

    def anew(self) -> None:
        """Begin all figures anew, as another model answers."""
        self._figures.end()
        self._figures = Figures(self._registry)

    def offer(self, answering: Live, body: RecommendOptions, read: Callable[[], Awaitable[Given]]) -> None:
        """Ask both models if the request is of the share and there is room. Called on the loop once a client has its answer.

        Args:
            answering: The model that answered.
            body: What was asked.
            read: Reads the histories.
        """
        if random.random() >= self.share:
            return
        dropped = len(self._tasks) >= _MOST
        self._figures.requests.labels("dropped" if dropped else "asked").inc()
        if not dropped:
            task = asyncio.get_running_loop().create_task(self._ask(answering, body, read))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """End it, with what was begun."""
        for task in self._tasks:
            task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._figures.end()

    async def _ask(self, answering: Live, body: RecommendOptions, read: Callable[[], Awaitable[Given]]) -> None:
        try:
            given, loop = await read(), asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, _compare, self._figures, answering, self.live, given, body)
        except Refusal:
            pass  # the store of sessions is away, which is in the log
        except Exception:
            _log.exception(
                "a fault of leanrec in a request to %s, the shadow of %s", self.live.digest, answering.digest
            )


def _compare(figures: Figures, answering: Live, shadow: Live, given: Given, body: RecommendOptions) -> None:
    ours = _answers(figures, "answering", answering, given(answering), body)
    theirs = _answers(figures, "shadow", shadow, given(shadow), body)
    for one, other in zip(ours, theirs, strict=True):
        if one and other:
            figures.overlap.observe(len(one & other) / max(len(one), len(other)))


def _answers(
    figures: Figures, name: str, live: Live, histories: Sequence[Sequence[str | Event]], body: RecommendOptions
) -> list[set[str]]:
    """The items for each user; none for one who is not answered."""
    started, found = time.perf_counter(), [set[str]() for _ in histories]
    try:
        asked = as_asked(live, histories, body)
        known = [row for row, one in enumerate(asked) if one.ids]
        for row, answer in zip(known, live.engine.answers([asked[row] for row in known]), strict=True):
            found[row] = {item.item for item in answer.items}
        if known:
            figures.seconds.labels(name).observe(time.perf_counter() - started)
    except LeanrecError:
        known = []
    figures.refused.labels(name).inc(len(histories) - len(known))
    return found
