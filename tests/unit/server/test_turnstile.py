"""Refusals at the socket say what the application says, and nothing but whole questions is refused there."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from unittest import mock

import pytest

from leanrec.engine.engine import Engine
from leanrec.server import turnstile as module
from leanrec.server.problems import Refusal
from leanrec.server.tarpit import MANY_REFUSALS
from leanrec.server.turnstile import is_whole_question
from unit.server.lines import HEAD, Line, Serving, over_sockets, question

FULL = Refusal("overloaded", "expected at most 3 users to wait, got more; try again in 2 s", 2)


def full(users: int, within: float, hasty: bool = False) -> None:
    raise FULL


def over_a_socket(engine: Engine, what: Callable[[Line], Awaitable[None]]) -> None:
    """Serve one connection, with time for nobody."""

    async def one(serving: Serving) -> None:
        serving.service.batcher.admit = full
        await what(await serving.line())

    over_sockets(engine, one)


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
        monkeypatch.setattr(module.Connection, "data_received", lambda *_: pytest.fail("it was read"))
        for _ in range(3):
            assert (await line.ask(question()))[0] == 429

    over_a_socket(plain, what)


def test_the_connection_stays_and_is_answered_when_there_is_time(plain: Engine) -> None:
    async def what(line: Line) -> None:
        assert (await line.ask(question()))[0] == 429
        del line.client.service.batcher.admit
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


def test_many_refusals_come_late(plain: Engine) -> None:
    """The first ones come at once; then each takes the client most of a deadline, within which it holds no other question."""

    async def what(serving: Serving) -> None:
        serving.service.batcher.admit = full
        serving.service.tarpit.window = 60.0  # however slow the machine is
        lines = [await serving.line() for _ in range(MANY_REFUSALS + 20)]
        for line in lines:
            line.writer.write(question())
        async with asyncio.timeout(30):
            while serving.refused("overloaded") < MANY_REFUSALS:
                await asyncio.sleep(0.001)
        assert serving.refused("overloaded") == MANY_REFUSALS
        lines[-1].reset()  # whoever leaves meanwhile is no fault
        del serving.service.batcher.admit  # there would be time now, but who was refused stays so
        lines[-2].writer.write(question())  # before the reply to the first one
        replies = [await line.reply() for line in lines[:-1]]
        assert {status for status, _, _ in replies} == {429}
        assert (await lines[-2].reply())[0] == 200
        assert (await lines[0].ask(question()))[0] == 200

    over_sockets(plain, what, deadline_ms=3000)


def test_who_asks_again_too_soon_gets_in_after_others(plain: Engine) -> None:
    async def what(serving: Serving) -> None:
        asked: list[bool] = []

        def watch(users: int, within: float, hasty: bool = False) -> None:
            asked.append(hasty)
            if len(asked) == 1:
                raise FULL

        serving.service.batcher.admit = watch
        first, other = await serving.line(), await serving.line()
        assert [(await line.ask(question()))[0] for line in (first, first, first, other)] == [429, 200, 200, 200]
        assert asked == [False, True, True, True, True, False, False]  # the queue asks again, of those let in

    over_sockets(plain, what)


def test_who_was_refused_late_has_not_rested_meanwhile(plain: Engine) -> None:
    async def what(serving: Serving) -> None:
        asked: list[bool] = []

        def watch(users: int, within: float, hasty: bool = False) -> None:
            asked.append(hasty)
            if len(asked) == 1:
                time.sleep(0.6)  # the loop is busy with others
                raise FULL

        serving.service.batcher.admit = watch
        line = await serving.line()
        assert (await line.ask(question(history=["i1"], deadline_ms=5000)))[
            0
        ] == 429  # read, for it has a deadline of its own
        assert (await line.ask(question()))[0] == 200
        assert asked[:2] == [False, True]

    with mock.patch.object(module, "REST", 0.5):
        over_sockets(plain, what)


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
        (question(history=["i1"], deadline_ms=5), False),
        (b"GET /v1/recommend HTTP/1.1\r\nContent-Length: 0\r\n\r\n", False),
        (b"POST /v1/recommend HTTP/1.0\r\nContent-Length: 0\r\n\r\n", False),
        (b"", False),
    ],
)
def test_what_is_one_whole_question(data: bytes, expected: bool) -> None:
    assert is_whole_question(data) is expected
