"""One connection: what it may send, in which time, and how it ends.

All of this is checked before a request reaches the application, so also before its key is. A client that breaks a limit is told
which one where a reply is possible, and the connection ends.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from leanrec.server.closing import PoliteTransport
from leanrec.server.problems import Refusal, as_bytes
from leanrec.server.service import Service

if TYPE_CHECKING:
    import asyncio

_FIELD = 32
"""Bytes that a header counts for beside its text, so that many empty ones have a limit, too."""
_CHUNKING = 8
"""A chunked body may be so many times larger than what it holds."""
_MOMENT = 0.02
"""Seconds in which bytes that have arrived are read."""
_QUIET = 0.25
"""Seconds without a request after which a connection is closed while the server stops."""


class NextPart(Enum):
    """What is read next: the head of a request, its body, or nothing that was begun."""

    HEAD = "headers"
    BODY = "body"
    IDLE = "nothing"


class Connection(HttpToolsProtocol):
    """uvicorn's protocol for HTTP/1.1 with limits on bytes and time.

    Args:
        service: Has the limits.
        options: Of uvicorn's protocol.
    """

    transport: PoliteTransport  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, service: Service, **options: Any) -> None:
        super().__init__(**options)
        self._service, self._settings = service, service.settings
        self._next, self._since = NextPart.HEAD, self.loop.time()
        self._read = self._fields = 0
        self._stuck = math.inf
        self._stopping = False
        self._broken: Refusal | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take a connection, if there is room for it."""
        super().connection_made(PoliteTransport(transport, self.loop))  # pyright: ignore[reportArgumentType]
        if len(self.connections) > self._settings.connections:
            self._refuse(
                Refusal("crowded", f"expected at most {self._settings.connections} connections, got more; try later", 1)
            )
            self.transport.close_now()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.transport.lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, within the limits."""
        if self.transport.is_closing():
            self.transport.ignore(data)
            return
        self._unset_keepalive_if_required()
        if self._next is NextPart.IDLE and self.idle:
            self._enter(NextPart.HEAD)  # empty lines may come before a request, but not for ever
        assert self.parser is not None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.cycle.keep_alive = False  # nothing is upgraded; the request is answered as any other
        except httptools.HttpParserError as error:
            self._refuse(self._broken or Refusal("not-http", f"expected HTTP/1.1, got something else: {error!s:.80}"))
            return
        self._read += len(data)
        if self._next is NextPart.HEAD and self._read > self._settings.header_bytes:
            self._refuse(self._too_many_fields())
        elif (
            self._next is NextPart.BODY
            and self._read > _CHUNKING * self._settings.body_bytes + self._settings.header_bytes
        ):
            self._refuse(
                Refusal("too-large", f"expected a body of at most {self._settings.body_bytes} bytes, got more")
            )

    def on_message_begin(self) -> None:
        """A request begins; of the bytes that came with its first ones only the complete headers are counted."""
        self._enter(NextPart.HEAD)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the path."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after a chunked body."""
        self._count(len(name) + len(value) + _FIELD)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request has its headers."""
        super().on_headers_complete()
        self._enter(NextPart.BODY)
        if not self._service.ready:
            self.cycle.keep_alive = False  # the next request goes to another server

    def on_message_complete(self) -> None:
        """A request was read."""
        self._enter(NextPart.IDLE)
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not read its replies."""
        self._stuck = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It reads them."""
        self._stuck = math.inf
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for long after a reply."""
        self._end_if_quiet()

    def expire(self, now: float) -> None:
        """End what takes too long; called now and then.

        Args:
            now: The loop's time in seconds.
        """
        took, own = now - self._since, self._settings
        if now - self._stuck > own.body_s:
            self.transport.abort()
        elif self.transport.is_closing():
            return
        elif self._next is NextPart.HEAD and took > own.header_s:
            if self._read:
                self._refuse(
                    Refusal("slow", f"expected headers within {own.header_s:g} s, got only some; send them at once")
                )
            else:
                self.transport.close_now()
        elif self._next is NextPart.BODY and took > own.body_s:
            self._refuse(
                Refusal("slow", f"expected a body within {own.body_s:g} s, got a part of one; send it at once")
            )

    def shutdown(self) -> None:
        """Answer what is under way, or comes soon, and end."""
        self._stopping = True
        if self.idle:
            self.loop.call_later(_QUIET, self._end_if_quiet)
        elif self.cycle is not None:
            self.cycle.keep_alive = False

    @property
    def idle(self) -> bool:
        """Whether nothing is being read, answered or sent."""
        begun = self._next is NextPart.BODY or (self._next is NextPart.HEAD and self._read > 0)
        return not (begun or self.pipeline) and (self.cycle is None or self.cycle.response_complete)

    def _end_if_quiet(self) -> None:
        """End, unless a request is there: that one is answered first."""
        if not self.idle or self.transport.is_closing():
            return
        if self.transport.unread():
            self.loop.call_later(_MOMENT, self._end_if_quiet)
        else:
            self.transport.close_now()

    def _enter(self, part: NextPart) -> None:
        self._next, self._since, self._read = part, self.loop.time(), 0
        if part is NextPart.HEAD:
            self._fields = 0

    def _count(self, bytes_: int) -> None:
        self._fields += bytes_
        if self._fields > self._settings.header_bytes:
            self._broken = self._too_many_fields()
            raise self._broken  # ends the parser, see `data_received`

    def _too_many_fields(self) -> Refusal:
        most = self._settings.header_bytes
        return Refusal("headers-too-large", f"expected headers of at most {most} bytes, got more; send fewer")

    def _refuse(self, refused: Refusal) -> None:
        """Say what is wrong, if it is this request's turn to be answered, and end."""
        self._service.metrics.refused.labels(refused.kind).inc()
        answering = self.cycle is not None and not self.cycle.response_complete
        first = answering and not self.cycle.response_started if self._next is NextPart.BODY else not answering
        if first and not self.pipeline:
            self.transport.write(as_bytes(refused, close=True))
        if answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.pipeline.clear()
        self.transport.close()
