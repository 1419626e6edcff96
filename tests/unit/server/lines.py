"""Connections to a server in this process, byte by byte."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from leanrec.engine.engine import Engine
from leanrec.server.turnstile import Turnstile
from unit.server.conftest import Client, talk

PATIENCE = 30.0
"""Seconds that a busy machine may take for anything."""
HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def question(path: str = "recommend", more: str = "", **body: object) -> bytes:
    """A whole request."""
    content = json.dumps(body or {"history": ["i1"], "k": 1}).encode()
    head = f"POST /v1/{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{more}Content-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Line:
    """A connection."""

    def __init__(self, serving: Serving, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving, self.client, self.reader, self.writer = serving, serving.client, reader, writer

    async def ask(self, *parts: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the reply to a request that is sent in parts."""
        for part in parts:
            await self.send(part)
        return await self.reply()

    async def send(self, part: bytes) -> None:
        """Bytes that the server reads before the next ones."""
        self.writer.write(part)
        await self.writer.drain()
        await asyncio.sleep(0.02)

    async def reply(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next reply."""
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def ended(self) -> bool:
        """That the server closes without another byte, and without a reset."""
        async with asyncio.timeout(PATIENCE):
            rest = await self.reader.read()
        self.writer.close()
        return rest == b""

    def reset(self) -> None:
        """Leave without a word."""
        sock: Any = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Serving:
    """A server of an engine."""

    def __init__(self, client: Client) -> None:
        self.client, self.service, self.state = client, client.service, ServerState()
        self._config = uvicorn.Config(client.app, log_level="warning", server_header=False, ws="none")
        self._config.load()
        self._make: Any = partial(Turnstile, client.service)
        self._lines: list[Line] = []

    async def listen(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self._make(config=self._config, server_state=self.state, app_state={}), "127.0.0.1", 0
        )

    async def line(self) -> Line:
        """Connect."""
        reader, writer = await asyncio.open_connection(*self._server.sockets[0].getsockname(), limit=2**22)
        self._lines.append(Line(self, reader, writer))
        return self._lines[-1]

    def expire(self, seconds: float) -> None:
        """So much later."""
        now = asyncio.get_running_loop().time()
        for connection in list(self.state.connections):
            connection.expire(now + seconds)  # pyright: ignore[reportAttributeAccessIssue]

    def refused(self, kind: str) -> float:
        """How many requests were refused so."""
        return self.service.metrics.refused.labels(kind)._value.get()

    async def gone(self) -> None:
        """Until nobody is connected."""
        async with asyncio.timeout(PATIENCE):
            while self.state.connections:
                await asyncio.sleep(0.01)

    def close(self) -> None:
        for line in self._lines:
            line.writer.close()
        self._server.close()


def over_sockets(engine: Engine, what: Callable[[Serving], Awaitable[None]], **settings: Any) -> None:
    """Serve an engine while a test connects to it."""

    async def whole_talk(client: Client) -> None:
        serving = Serving(client)
        await serving.listen()
        try:
            await what(serving)
        finally:
            serving.close()

    talk(engine, whole_talk, **settings)
