"""Close a connection without losing the reply that was just written to it."""

from __future__ import annotations

import asyncio
import select
from typing import Any

PATIENCE = 2.0
"""Seconds until a client that was told of the end must have closed its side."""
IGNORED = 2**20
"""Bytes that such a client may still send; they are not kept."""


class PoliteTransport:
    """A transport whose `close` ends the writing side first, and the connection when the client has closed, too.

    Closing a socket that has unread bytes resets the connection, and a reset destroys a reply that is still on its way. So the
    protocol must go on to read, and pass what comes to `ignore`.

    Args:
        transport: Of one connection.
        loop: Runs it.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._end: asyncio.TimerHandle | None = None
        self._ignored = 0
        self.write, self.get_extra_info = transport.write, transport.get_extra_info
        self.pause_reading, self.resume_reading = transport.pause_reading, transport.resume_reading

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more is to be written."""
        return self._end is not None or self._transport.is_closing()

    def close(self) -> None:
        """Send what was written, then say that nothing follows."""
        if self.is_closing():
            return
        self._end = self._loop.call_later(PATIENCE, self._transport.abort)
        self._transport.resume_reading()
        self._transport.write_eof()

    def close_now(self) -> None:
        """Send what was written, and close without waiting for the client."""
        self._transport.close()

    def unread(self) -> bool:
        """Whether bytes have arrived that the loop has not read yet."""
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def ignore(self, data: bytes) -> None:
        """Bytes that came after the end."""
        self._ignored += len(data)
        if self._ignored > IGNORED:
            self._transport.abort()

    def lost(self) -> None:
        """The connection is gone."""
        if self._end is not None:
            self._end.cancel()
