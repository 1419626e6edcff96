"""The models of a server: the one that answers, and perhaps another in its shadow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from leanrec.core.errors import LeanrecError
from leanrec.server import schemas
from leanrec.server.live import Live
from leanrec.server.metrics import Metrics
from leanrec.server.problems import Refusal
from leanrec.server.shadow import Shadow

_log = logging.getLogger("leanrec.server")


class Models:
    """Changes which model answers, one change after the other. All methods are called on one event loop.

    Args:
        live: The model that answers first.
        opener: Opens and tries the one at a path.
        prepare: Brings a model up to date before it is asked.
        metrics: Show what is served.
    """

    def __init__(
        self, live: Live, opener: Callable[[Path], Live], prepare: Callable[[Live], Awaitable[None]], metrics: Metrics
    ) -> None:
        self.live = live
        self.shadow: Shadow | None = None
        self._open, self._prepare, self._metrics = opener, prepare, metrics
        self._changing, self._waits = asyncio.Lock(), False
        metrics.serves(live)

    def all(self) -> list[Live]:
        """Every model that is asked."""
        return [self.live] if self.shadow is None else [self.live, self.shadow.live]

    async def change(self, body: schemas.Reload) -> None:
        """Do what a request to reload says.

        Raises:
            Refusal: As the methods below; or the request contradicts itself.
        """
        path = Path(body.path) if body.path else None
        if body.shadow is not True and body.share is not None:
            raise Refusal("bad-request", 'expected share beside "shadow": true only, got it without; leave it out')
        if isinstance(body.shadow, str) and path is not None:
            raise Refusal(
                "bad-request", f'expected no path beside "shadow": "{body.shadow}", got {body.path!r:.80}; leave it out'
            )
        if body.shadow is True:
            await self.begin_shadow(path, 0.1 if body.share is None else body.share)
        elif body.shadow:
            await (self.promote() if body.shadow == "promote" else self.drop())
        else:
            await self.reload(path)

    async def reload(self, path: Path | None = None) -> None:
        """Open and try another model, and answer with it from then on; if anything is wrong, the present one stays.

        It is opened on a thread of its own. One more change may wait; it reads the files as they are when it begins.

        Args:
            path: A run or an export; None for the path that is served.

        Raises:
            Refusal: The model cannot be served, or another change waits already.
        """
        async with self._turn():
            self._answers(await self._opened(path))

    async def begin_shadow(self, path: Path | None, share: float) -> None:
        """Open and try another model, and ask it for a share of the requests beside the one that answers.

        Args:
            path: As for `reload`.
            share: Above 0, at most 1.

        Raises:
            Refusal: As for `reload`, or there is a shadow already.
        """
        async with self._turn():
            if self.shadow is not None:
                raise self._refused(
                    f"expected no shadow yet, got {self.shadow.live.digest} beside {self.live.digest}; promote or drop it first"
                )
            self.shadow = Shadow(await self._opened(path), share, self._metrics.registry)
            _log.warning(
                "%s is in the shadow of %s, for %g of the requests", self.shadow.live.digest, self.live.digest, share
            )

    async def promote(self) -> None:
        """Answer with the shadow from now on; sessions stay.

        Raises:
            Refusal: There is none.
        """
        async with self._turn():
            live = self._beside("promote").live
            await self._prepare(live)
            self.close()
            self._answers(live)

    async def drop(self) -> None:
        """End the shadow.

        Raises:
            Refusal: There is none.
        """
        async with self._turn():
            _log.warning("dropped %s, the shadow of %s", self._beside("drop").live.digest, self.live.digest)
            self.close()

    def close(self) -> None:
        """End the shadow, if there is one."""
        if self.shadow is not None:
            self.shadow.close()
            self.shadow = None

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waits:
            raise self._refused("expected at most one reload to wait, got another; it reads what is there then", 1)
        self._waits = True
        try:
            await self._changing.acquire()
        finally:
            self._waits = False
        try:
            yield
        finally:
            self._changing.release()

    async def _opened(self, path: Path | None) -> Live:
        path = path or self.live.path
        try:
            live = await asyncio.to_thread(self._open, path)
        except Exception as error:
            self._metrics.reloads.labels("failed").inc()
            expected = isinstance(error, LeanrecError)
            _log.error("reload failed, %s is still served: %s", self.live.digest, error, exc_info=not expected)
            detail = str(error) if expected else f"a fault of leanrec at {path}; the log of the server says more"
            raise self._refused(f"{detail}; {self.live.digest} is still served") from error
        await self._prepare(live)
        return live

    def _answers(self, live: Live) -> None:
        self.live = live
        if self.shadow is not None:
            self.shadow.anew()
        self._metrics.reloads.labels("done").inc()
        self._metrics.serves(live)
        _log.warning("serving %s from %s", live.digest, live.path)

    def _beside(self, what: str) -> Shadow:
        if self.shadow is None:
            raise self._refused(
                f'expected a shadow to {what}, got none beside {self.live.digest}; begin one with {{"path": PATH, "shadow": true}}'
            )
        return self.shadow

    def _refused(self, detail: str, retry_after: int | None = None) -> Refusal:
        return Refusal("reload-failed", detail, retry_after)
