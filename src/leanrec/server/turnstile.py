"""Refusals at the socket, so that those whom a server has no time for take none of its time.

Reading a request, starting its task and sending a reply through the application costs as much as answering it with a small
model. At three times the load that a server can take, most requests are refused: then refusals alone would fill the loop, and
whoever is answered would be late for them.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from leanrec.server.endpoint import encoder
from leanrec.server.metrics import Metrics
from leanrec.server.problems import MEDIA, Refusal
from leanrec.server.service import Service

PATH = "/v1/recommend"
"""Questions may be turned away unread. Events may not: the reply to them says whether they are kept."""
START = f"POST {PATH} HTTP/1.1\r\n".encode()
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?=\r\n)", re.IGNORECASE)
UNUSUAL = re.compile(rb"\r\n(connection|expect|upgrade|transfer-encoding):", re.IGNORECASE)


def turnstile(service: Service) -> Any:
    """uvicorn's protocol for HTTP/1.1, in front of a service."""
    return partial(Turnstile, service)


def whole(data: bytes) -> bool:
    """Whether these bytes are one question from its first to its last, over a connection that is kept."""
    if not data.startswith(START):
        return False
    end = data.find(b"\r\n\r\n")
    lengths = LENGTH.findall(data, 0, end + 2) if end > 0 else []
    return len(lengths) == 1 and end + 4 + int(lengths[0]) == len(data) and not UNUSUAL.search(data, 0, end)


def turned_away(refused: Refusal, metrics: Metrics) -> bytes:
    """A reply to a request that was not read."""
    problem = refused.problem()
    body = encoder.encode(problem)
    metrics.refused.labels(refused.kind).inc()
    metrics.replied(PATH, problem.status, 0.0)
    more = "".join(f"{name.lower()}: {value}\r\n" for name, value in refused.headers.items())
    head = f"HTTP/1.1 {problem.status} {problem.title}\r\ncontent-type: {MEDIA}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    return head.encode("latin-1") + body


class Turnstile(HttpToolsProtocol):
    """Asks the service whether there is time for a question before it is parsed.

    Whatever is not plainly one whole question, on a connection where nothing else is under way, goes the usual way, where the same
    is asked again.

    Args:
        service: Knows its queue.
        options: Of uvicorn's protocol.
    """

    def __init__(self, service: Service, **options: Any) -> None:
        super().__init__(**options)
        self._service, self._reading = service, False

    def data_received(self, data: bytes) -> None:
        """Refuse, or go on."""
        if self._idle() and whole(data):
            try:
                self._service.admit()
            except Refusal as refused:
                self.transport.write(turned_away(refused, self._service.metrics))
                self._stay()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._reading = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """A request was read."""
        self._reading = False
        super().on_message_complete()

    def _idle(self) -> bool:
        """Nothing is being read, answered or sent on this connection, and it will stay."""
        busy = self._reading or self.pipeline or self.flow.write_paused or not self._service.ready
        return not busy and (self.cycle is None or self.cycle.response_complete)

    def _stay(self) -> None:
        """Keep the connection as long as after any other reply."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
