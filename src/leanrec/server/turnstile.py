"""Refuse requests before they are parsed, so that refusals leave time for answers.

To parse a request, start its task and reply through the application costs about as much as to answer it with a small model. At
three times the load that a server can take, two of three requests are refused. If each refusal went the usual way, refusals alone
would fill the event loop, and those who are answered would be answered late.

uvicorn has a limit of its own (``limit_concurrency``), but applies it after a request was parsed, and knows nothing of deadlines.
So `Turnstile` and `Connection` subclass its protocol for HTTP/1.1, `HttpToolsProtocol`, and depend on attributes of it that are not
documented (``cycle``, ``pipeline``, ``flow``, ``_unset_keepalive_if_required``). The tests of the server run against the installed
uvicorn and fail where a new version changes them. ``benchmarks/serving.py storm`` measures what this is for: 1,500 clients that ask
again as soon as they are refused leave the server most of its capacity.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from leanrec.server.app import HASTY, REFUSED
from leanrec.server.connection import Connection, NextPart
from leanrec.server.problems import Refusal, as_bytes
from leanrec.server.service import Service

_PATH = "/v1/recommend"
"""Questions may be refused unread. Events may not: their reply must say whether they were stored."""
_START = f"POST {_PATH} HTTP/1.1\r\n".encode()
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?=\r\n)", re.IGNORECASE)
_UNUSUAL = re.compile(rb"\r\n(connection|expect|upgrade|transfer-encoding):", re.IGNORECASE)
_OWN_TIME = b'"deadline_ms"'
"""A request with a deadline of its own has to be read before it can be refused."""
REST = 1.0
"""Seconds that a refused client should wait before it asks again; the least ``Retry-After``."""


def is_whole_question(data: bytes) -> bool:
    """Whether these bytes are exactly one question, on a connection that stays open."""
    if not data.startswith(_START):
        return False
    end = data.find(b"\r\n\r\n")
    lengths = _LENGTH.findall(data, 0, end + 2) if end > 0 else []
    if len(lengths) != 1 or end + 4 + int(lengths[0]) != len(data):
        return False
    return not _UNUSUAL.search(data, 0, end) and _OWN_TIME not in data


class Turnstile(Connection):
    """A connection that asks for admission before it parses a question.

    Only one whole question, on a connection where nothing else is under way, can be refused here. Everything else goes the usual
    way, where the same admission is asked. Clients that ask again sooner than they were told to get in after those that do not.

    Args:
        service: Has the queue.
        options: Of uvicorn's protocol.
    """

    def __init__(self, service: Service, **options: Any) -> None:
        super().__init__(service, **options)
        self._held = self._refused = self._hasty = False
        self._last, self._early = -REST, b""

    def data_received(self, data: bytes) -> None:
        """Refuse a question, or parse what came."""
        if self._held and not self.transport.is_closing():  # more came before the reply; it is read after it
            self._early += data
            self.flow.pause_reading()
            return
        if self._stands() and is_whole_question(data):
            self._unset_keepalive_if_required()
            try:
                self._service.check_unread(self._in_haste())
            except Refusal as refused:
                self._turn_away(refused)
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A request begins that was not refused unread."""
        super().on_message_begin()
        self.scope[HASTY] = self._hasty  # pyright: ignore[reportGeneralTypeIssues]

    def on_response_complete(self) -> None:
        """A reply was sent: from now on it counts how long the client waits before it asks again."""
        self._last = self.loop.time()
        super().on_response_complete()

    @property
    def idle(self) -> bool:
        """Whether no request is being read, answered or refused, and no reply sent."""
        return not self._held and super().idle

    def _stands(self) -> bool:
        """Whether a question may be refused unread now."""
        return self._service.ready and self.idle and not self.flow.write_paused and not self.transport.is_closing()

    def _in_haste(self) -> bool:
        """Whether this client asks again sooner than it was told to. It stays hasty until it waits `REST` seconds after a reply."""
        now = self.loop.time()
        if now - self._last >= REST:
            self._hasty = False
        elif self._refused or (self.cycle is not None and self.cycle.scope.get(REFUSED)):
            self._hasty = True
        self._refused = False
        return self._hasty

    def _turn_away(self, refused: Refusal) -> None:
        self._enter(NextPart.IDLE)
        self._held = True
        self._service.refuse_unread(partial(self._answer, refused), self._hasty)

    def _answer(self, refused: Refusal) -> None:
        """Send the refusal, and keep the connection open as after any other reply."""
        self._held = False
        if self.transport.is_closing():
            return
        self._refused, self._last = True, self.loop.time()
        metrics = self._service.metrics
        metrics.refused.labels(refused.kind).inc()
        metrics.replied(_PATH, refused.status, 0.0)
        self.transport.write(as_bytes(refused, self._stopping))
        if self._stopping:
            self.transport.close()
            return
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        early, self._early = self._early, b""
        if early:
            self.flow.resume_reading()
            self.data_received(early)
