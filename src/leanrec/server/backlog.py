"""Stop listening without resetting clients that have connected and were not accepted yet."""

from __future__ import annotations

import asyncio
import ctypes
import select
import socket
import struct
import sys
from contextlib import suppress

SO_ATTACH_FILTER = 26
"""Of Linux; the socket module does not name it."""
DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte with the flags of the TCP header
    (0x45, 0, 1, 0x02),  # SYN?
    (0x06, 0, 0, 0),  # then drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # else take it whole
)
"""A packet filter that drops requests for new connections."""
MOMENT = 0.02
"""Seconds in which a connection that was begun is complete."""
PATIENCE = 1.0
"""Seconds after which the socket is closed all the same."""


async def last_ones(listening: socket.socket) -> None:
    """Keep new clients out, and wait until the loop has accepted those that have connected.

    Closing a listening socket resets whoever is in its queue. New clients try again after a second, and then find the port closed;
    none of them has sent a request. Only Linux can keep them out; elsewhere some may still connect while the socket is closed.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            _drop_new(listening)
    poll = select.poll()
    poll.register(listening, select.POLLIN)
    for _ in range(int(PATIENCE / MOMENT)):
        await asyncio.sleep(MOMENT)
        if not poll.poll(0):
            return


def _drop_new(listening: socket.socket) -> None:
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in DROP_SYN))
    listening.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(DROP_SYN), ctypes.addressof(program))
    )
