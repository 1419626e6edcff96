"""One connection: how much it may send, in what time, and how it ends.

These limits are checked before a request reaches the application, so also before its key is. A client that breaks one is told
which, if it can still be sent a reply, and the connection is closed.
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
"""Bytes that every header counts for in addition to its text, so that there is a limit to empty ones, too."""
_CHUNKING = 8
"""Factor by which a chunked body may be larger than its content."""
_MOMENT = 0.02
"""Seconds after which bytes that have arrived should have been read."""
_QUIET = 0.25
"""Seconds without a request after which a connection is closed while the server stops."""


class NextPart(Enum):
    """What the client should send next: the head of a request, its body, or a new request."""

    HEAD = "headers"
    BODY = "body"
    IDLE = "nothing"


class Connection(HttpToolsProtocol):
    """uvicorn's protocol for HTTP/1.1 with limits on bytes and time.

    Args:
        service: Has the limits in its settings.
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
        """Accept a connection, or refuse it if there are too many."""
        super().connection_made(PoliteTransport(transport, self.loop))  # pyright: ignore[reportArgumentType]
        if len(self.connections) > self._settings.connections:
            self._refuse(
                Refusal("crowded", f"expected at most {self._settings.connections} connections, got more; try later", 1)
            )
            self.transport.close_now()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self.transport.lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes, within the limits."""
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
        """A request begins. Bytes that came together with its first ones are counted once its headers are complete."""
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
        """The client reads again."""
        self._stuck = math.inf
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """No request came for a long time after a reply."""
        self._end_if_quiet()

    def expire(self, now: float) -> None:
        """End the connection if something takes too long; called twice a second.

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
        """Answer the current request, and one that comes at once, then end."""
        self._stopping = True
        if self.idle:
            self.loop.call_later(_QUIET, self._end_if_quiet)
        elif self.cycle is not None:
            self.cycle.keep_alive = False

    @property
    def idle(self) -> bool:
        """Whether no request is being read or answered, and no reply sent."""
        begun = self._next is NextPart.BODY or (self._next is NextPart.HEAD and self._read > 0)
        return not (begun or self.pipeline) and (self.cycle is None or self.cycle.response_complete)

    def _end_if_quiet(self) -> None:
        """End, unless a request has arrived, which is answered first."""
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
            raise self._broken  # ends the parser; `data_received` sends it

    def _too_many_fields(self) -> Refusal:
        most = self._settings.header_bytes
        return Refusal("headers-too-large", f"expected headers of at most {most} bytes, got more; send fewer")

    def _refuse(self, refused: Refusal) -> None:
        """Send a refusal, if it is this request's turn to be answered, and end the connection."""
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
