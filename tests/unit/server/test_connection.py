"""What a connection may send, in which time, and how it ends."""

from __future__ import annotations

import json

import pytest

from leanrec.engine.engine import Engine
from unit.server.lines import HEAD, Line, Serving, over_sockets, question

SMALL = {"header_bytes": 1000, "body_bytes": 1000}
START = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


def told(reply: tuple[int, dict[str, str], bytes], status: int, kind: str, detail: str) -> None:
    """That a reply is a refusal after which the connection ends."""
    body = json.loads(reply[2])
    assert (reply[0], body["type"]) == (status, f"urn:leanrec:{kind}") and detail in body["detail"]
    assert reply[1]["connection"] == "close" and reply[1]["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET /" + b"a" * 600, b"a" * 600],
        [b"GET /" + b"a" * 1500 + b" HTTP/1.1\r\n"],
        [START + b"X: " + b"a" * 600, b"a" * 600],
        [START + b"X: " + b"a" * 1500 + b"\r\n\r\n"],
        [START, *[b"X: a\r\n" * 20] * 10],
        [b"\r\n" * 400, b"\r\n" * 400],
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + b"X: a\r\n" * 100],
    ],
    ids=["a path", "a whole path", "a header", "a whole header", "many tiny ones", "empty lines", "trailers"],
)
def test_headers_have_a_limit(parts: list[bytes], plain: Engine) -> None:
    async def what(serving: Serving) -> None:
        line = await serving.line()
        for part in parts:
            await line.send(part)
        told(await line.reply(), 431, "headers-too-large", "expected headers of at most 1000 bytes, got more")
        assert await line.ended()
        await serving.gone()

    over_sockets(plain, what, **SMALL)


def test_a_key_is_not_needed_to_be_refused(plain: Engine) -> None:
    async def what(serving: Serving) -> None:
        line = await serving.line()
        assert (await line.ask(question()))[0] == 401
        assert (await line.ask(START + b"X: " + b"a" * 1500))[0] == 431

    over_sockets(plain, what, api_key="key", **SMALL)


def test_a_chunked_body_has_a_limit(plain: Engine) -> None:
    async def what(serving: Serving) -> None:
        line = await serving.line()
        await line.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        await line.send(b"3e8\r\n" + b" " * 1000 + b"\r\n")
        assert (await line.ask(b"3e8\r\n" + b" " * 1000 + b"\r\n"))[0] == 413
        for _ in range(9):
            await line.send(b"3e8\r\n" + b" " * 1000 + b"\r\n")
        assert await line.ended()

    over_sockets(plain, what, **SMALL)


def test_time_has_a_limit(plain: Engine) -> None:
    async def what(serving: Serving) -> None:
        silent, part, body, answered = [await serving.line() for _ in range(4)]
        await part.send(b"GET / HT")
        await body.send(question()[:-3])
        assert (await answered.ask(question()))[0] == 200
        serving.expire(4.0)
        assert len(serving.state.connections) == 4
        serving.expire(6.0)
        told(await part.reply(), 408, "slow", "expected headers within 5 s, got only some; send them at once")
        assert await silent.ended() and await part.ended()
        assert (await answered.ask(question()))[0] == 200
        serving.expire(8.0)
        told(await body.reply(), 408, "slow", "expected a body within 7 s, got a part of one; send it at once")
        assert await body.ended()
        assert (await answered.ask(question()))[0] == 200
        assert serving.refused("slow") == 2

    over_sockets(plain, what, header_s=5.0, body_s=7.0)


def test_connections_have_a_limit(plain: Engine) -> None:
    async def what(serving: Serving) -> None:
        first, second, third = [await serving.line() for _ in range(3)]
        told(await third.reply(), 503, "crowded", "expected at most 2 connections, got more")
        assert await third.ended()
        assert [(await line.ask(question()))[0] for line in (first, second)] == [200, 200]
        first.writer.close()
        await first.writer.wait_closed()
        await second.send(b"")
        assert (await (await serving.line()).ask(question()))[0] == 200

    over_sockets(plain, what, connections=2)


def test_replies_that_nobody_reads_do_not_stay(plain: Engine) -> None:
    async def what(serving: Serving) -> None:
        line = await serving.line()
        line.writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
        for _ in range(400):
            line.writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(100):
            await line.send(b"")
            if any(connection.flow.write_paused for connection in serving.state.connections):  # pyright: ignore
                break
        serving.expire(10.0)
        assert serving.state.connections
        serving.expire(40.0)
        await serving.gone()

    over_sockets(plain, what)


@pytest.mark.parametrize(
    "sent",
    [b"\x00\x01\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET  / FTP\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\n\r\n"],
)
def test_what_is_not_http_is_told_so(sent: bytes, plain: Engine, caplog: pytest.LogCaptureFixture) -> None:
    async def what(serving: Serving) -> None:
        line = await serving.line()
        told(await line.ask(sent), 400, "not-http", "expected HTTP/1.1, got something else")
        assert await line.ended()

    over_sockets(plain, what)
    assert not caplog.records  # a line for each would fill the log


def test_nothing_is_upgraded(plain: Engine, caplog: pytest.LogCaptureFixture) -> None:
    async def what(serving: Serving) -> None:
        line = await serving.line()
        status, headers, _ = await line.ask(START + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (status, headers["connection"]) == (200, "close") and await line.ended()

    over_sockets(plain, what)
    assert not caplog.records


def test_requests_in_a_row_are_answered_in_order(plain: Engine) -> None:
    async def what(serving: Serving) -> None:
        line = await serving.line()
        await line.send(question(k=1, history=["i1"]) + question(k=2, history=["i1"]) + START + b"\r\n")
        replies = [json.loads((await line.reply())[2]) for _ in range(3)]
        assert [len(reply.get("items", ())) for reply in replies] == [1, 2, 0]

    over_sockets(plain, what, header_bytes=2000)


def test_an_older_client_gets_its_reply_and_the_end(plain: Engine) -> None:
    async def what(serving: Serving) -> None:
        line = await serving.line()
        line.writer.write(b"GET /healthz HTTP/1.0\r\n\r\nmore that is never read")
        assert (await line.reply())[0] == 200
        assert await line.ended()  # a reset would have raised
        await serving.gone()

    over_sockets(plain, what)


def test_a_server_that_stops_answers_first(plain: Engine) -> None:
    """Clients that are idle, in the middle of a request, or about to send one when the server begins to stop."""

    async def what(serving: Serving) -> None:
        idle, middle, fresh = [await serving.line() for _ in range(3)]
        assert (await idle.ask(question()))[0] == 200
        await middle.send(question()[:50])
        serving.service.ready = False
        for connection in list(serving.state.connections):
            connection.shutdown()

        async def last(line: Line, sent: bytes) -> None:
            status, headers, _ = await line.ask(sent)
            assert (status, headers["connection"]) == (200, "close") and await line.ended()

        for line, sent in ((idle, question()), (middle, question()[50:]), (fresh, question())):
            await last(line, sent)
        await serving.gone()

    over_sockets(plain, what)


def test_a_server_that_stops_lets_go_of_idle_clients(plain: Engine) -> None:
    async def what(serving: Serving) -> None:
        line = await serving.line()
        assert (await line.ask(question()))[0] == 200
        for connection in list(serving.state.connections):
            connection.shutdown()
        assert await line.ended()
        await serving.gone()

    over_sockets(plain, what)
