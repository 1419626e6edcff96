"""Refusals at the socket say what the application says, and nothing but whole questions is refused there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
import uvicorn
from uvicorn.server import ServerState

from leanrec.serve.engine import Engine
from leanrec.server import turnstile as module
from leanrec.server.problems import Refusal
from leanrec.server.turnstile import turnstile, whole
from unit.server.conftest import Client, talk

HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
FULL = Refusal("overloaded", "expected at most 3 users to wait, got more; try again in 2 s", 2)


def question(path: str = "recommend", more: str = "", **body: object) -> bytes:
    content = json.dumps(body or {"history": ["i1"], "k": 1}).encode()
    head = f"POST /v1/{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{more}Content-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Line:
    """A connection to a service that has time for nobody until told otherwise."""

    def __init__(self, client: Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.client, self.reader, self.writer = client, reader, writer

    async def ask(self, *parts: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the reply to a request that is sent in parts."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0.02)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))


def over_a_socket(engine: Engine, what: Callable[[Line], Awaitable[None]]) -> None:
    async def whole_talk(client: Client) -> None:
        def full() -> None:
            raise FULL

        client.service.admit = full
        config = uvicorn.Config(client.app, log_level="warning", server_header=False)
        config.load()
        make, state = turnstile(client.service), ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: make(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            await what(Line(client, reader, writer))
        finally:
            writer.close()
            server.close()

    talk(engine, whole_talk)


def test_a_refusal_at_the_socket_is_that_of_the_application(plain: Engine) -> None:
    async def what(line: Line) -> None:
        sent = question()
        at_once = await line.ask(sent)
        usual = await line.ask(sent[:40], sent[40:])
        assert at_once[0] == usual[0] == 429
        assert at_once[2] == usual[2] and b"expected at most 3 users to wait" in at_once[2]
        for name in ("content-type", "content-length", "retry-after"):
            assert at_once[1][name] == usual[1][name]
        metrics = (await line.client.get("/metrics")).text
        assert 'leanrec_refused_total{problem="overloaded"} 2.0' in metrics
        assert 'leanrec_requests_total{path="/v1/recommend",status="429"} 2.0' in metrics

    over_a_socket(plain, what)


def test_refusals_at_the_socket_do_not_read_the_question(plain: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application is never asked, so a refusal costs none of its time."""

    async def what(line: Line) -> None:
        monkeypatch.setattr(module.HttpToolsProtocol, "data_received", lambda *_: pytest.fail("it was read"))
        for _ in range(3):
            assert (await line.ask(question()))[0] == 429

    over_a_socket(plain, what)


def test_the_connection_stays_and_is_answered_when_there_is_time(plain: Engine) -> None:
    async def what(line: Line) -> None:
        assert (await line.ask(question()))[0] == 429
        line.client.service.admit = lambda: None
        for _ in range(2):
            status, _, body = await line.ask(question())
            assert status == 200 and len(json.loads(body)["items"]) == 1

    over_a_socket(plain, what)


def test_events_are_never_refused_unread(plain: Engine) -> None:
    async def what(line: Line) -> None:
        status, _, body = await line.ask(question("events", user="u", items=["i1"], recommend=False))
        assert status == 200 and json.loads(body)["events"] == 1

    over_a_socket(plain, what)


def test_the_bytes_of_another_body_are_no_question(plain: Engine) -> None:
    """A body may hold what looks like a request."""

    async def what(line: Line) -> None:
        inner = question()
        head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        outer = head + b"Content-Length: %d\r\n\r\n" % len(inner)
        status, _, body = await line.ask(outer, inner)
        assert status == 400 and b"not-json" in body

    over_a_socket(plain, what)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (question(), True),
        (HEAD + b"content-LENGTH:  2 \r\n\r\n{}", True),
        (question()[:-1], False),
        (question() + b"P", False),
        (question() + question(), False),
        (question(more="Content-Length: 5\r\n"), False),
        (question(more="Connection: close\r\n"), False),
        (question(more="Expect: 100-continue\r\n"), False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
        (HEAD + b"Content-Length: x\r\n\r\n", False),
        (HEAD + b"Content-Length: 3", False),
        (question("events"), False),
        (b"GET /v1/recommend HTTP/1.1\r\nContent-Length: 0\r\n\r\n", False),
        (b"POST /v1/recommend HTTP/1.0\r\nContent-Length: 0\r\n\r\n", False),
        (b"", False),
    ],
)
def test_what_is_one_whole_question(data: bytes, expected: bool) -> None:
    assert whole(data) is expected
