"""Whoever has sent a request is answered, also when the server is told to stop in that moment."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from e2e.serving import Serving, serving

CLIENTS = 40
BODY = json.dumps({"history": ["item-3"], "k": 3}).encode()
REQUEST = (
    b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    % len(BODY)
)


async def client(address: tuple[str, int], kept: bool, found: Counter[str]) -> None:
    """Ask until nobody listens any more.

    Args:
        address: Of the server.
        kept: Whether a connection is used until the server says that it ends, or for one request only.
        found: Counts replies and requests without one.
    """
    while True:
        try:
            reader, writer = await asyncio.open_connection(*address)
        except OSError:
            return  # nothing was sent
        try:
            goes_on = True
            while goes_on:
                writer.write(REQUEST + BODY)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
                found[head.split()[1].decode()] += 1
                goes_on = kept and b"connection: close" not in head
        except (OSError, asyncio.IncompleteReadError):
            found["lost"] += 1
        finally:
            writer.close()


async def stopped(server: Serving) -> Counter[str]:
    """What clients get while the server is told to stop."""
    where, found = urlsplit(server.url), Counter[str]()
    address = (where.hostname or "", where.port or 0)
    clients = [asyncio.create_task(client(address, kept, found)) for kept in (False, True) for _ in range(CLIENTS)]
    async with asyncio.timeout(120):
        while found["200"] < 20 * CLIENTS:
            await asyncio.sleep(0.01)
        server.signal(signal.SIGTERM)
        await asyncio.gather(*clients)
    return found


@pytest.mark.slow
def test_nobody_who_has_sent_a_request_is_reset(run: Path) -> None:
    with serving(run, "--deadline-ms", "30000") as server:
        found = asyncio.run(stopped(server))
        assert server.ended() == 0
        assert server.process.stderr is not None and "Traceback" not in server.process.stderr.read()
    assert set(found) == {"200"}, found
