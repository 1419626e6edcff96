"""End without resetting clients: a connection whose reply is on its way, and a listening socket that clients have connected to."""

from __future__ import annotations

import asyncio
import ctypes
import select
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

_PATIENCE = 2.0
"""Seconds within which a client must close its side after the server has closed its own."""
_IGNORED = 2**20
"""Bytes that a client may still send after that; they are dropped."""

_SO_ATTACH_FILTER = 26
"""Of Linux; the socket module does not name it."""
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte with the flags of the TCP header
    (0x45, 0, 1, 0x02),  # SYN?
    (0x06, 0, 0, 0),  # then drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # else take it whole
)
"""A packet filter that drops requests for new connections."""
_MOMENT = 0.02
"""Seconds in which a handshake that has begun is complete."""
_LONGEST = 1.0
"""Seconds after which the socket is closed even if clients still wait."""


class PoliteTransport:
    """A transport whose `close` ends the writing side first, and the connection once the client has closed its side.

    Closing a socket that has unread bytes resets the connection, and a reset destroys a reply that is still on its way. So the
    protocol has to go on reading after `close`, and to pass what comes to `ignore`.

    Args:
        transport: Of one connection.
        loop: Its event loop.
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
        """Whether `close` was called or the connection is gone."""
        return self._end is not None or self._transport.is_closing()

    def close(self) -> None:
        """Send what was written, and tell the client that nothing follows."""
        if self.is_closing():
            return
        self._end = self._loop.call_later(_PATIENCE, self._transport.abort)
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
        """Drop bytes that came after `close`."""
        self._ignored += len(data)
        if self._ignored > _IGNORED:
            self._transport.abort()

    def lost(self) -> None:
        """The connection is gone."""
        if self._end is not None:
            self._end.cancel()


async def wait_for_backlog(listening: socket.socket) -> None:
    """Let no new client connect, and wait until the loop has accepted those that have.

    Closing a listening socket resets the clients in its queue, who may have sent requests. On Linux a packet filter drops new
    handshakes meanwhile: such clients try again a second later and find the port closed. Elsewhere some may still be reset.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            _drop_new(listening)
    poll = select.poll()
    poll.register(listening, select.POLLIN)
    for _ in range(int(_LONGEST / _MOMENT)):
        await asyncio.sleep(_MOMENT)
        if not poll.poll(0):
            return


def _drop_new(listening: socket.socket) -> None:
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _DROP_SYN))
    listening.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
    )
