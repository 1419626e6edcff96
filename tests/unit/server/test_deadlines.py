"""A store that is held, slow or full: every request is answered in its time, and what is said of its events is true."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from leanrec.engine.engine import Engine
from leanrec.server.stores import HistoryStore, MemoryStore, Noting, Past, Unavailable, open_store
from leanrec.server.stores import writer as writing
from leanrec.server.stores.base import MOST_CALLS
from leanrec.server.stores.sqlite import SqliteStore
from leanrec.server.stores.writer import Writer
from unit.server.conftest import Client, problem, talk

LATE = 20.0
"""Seconds after which a reply hung: a locked file is held for longer in these tests."""


@contextmanager
def held(path: Path) -> Iterator[sqlite3.Connection]:
    """The file of sessions while another process writes to it."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield other
    finally:
        if other.in_transaction:
            other.execute("ROLLBACK")
        other.close()


def on(path: Path, what: Callable[[SqliteStore], Awaitable[None]]) -> None:
    async def whole() -> None:
        store = SqliteStore(str(path))
        try:
            async with asyncio.timeout(LATE):
                await what(store)
        finally:
            await store.close()

    asyncio.run(whole())


def test_a_held_file_keeps_no_request_beyond_its_time(plain: Engine, tmp_path: Path) -> None:
    path = tmp_path / "s.db"

    async def what(client: Client) -> None:
        assert (await client.post("/v1/events", {"user": "u", "items": ["i1"]})).status_code == 200
        with held(path):
            async with asyncio.timeout(LATE):
                events = [
                    client.post("/v1/events", {"user": f"u{n % 4}", "items": ["i2"], "deadline_ms": 100})
                    for n in range(12)
                ]
                replies = await asyncio.gather(*events, client.http.delete("/v1/events", params={"user": "u9"}))
                read = await client.post("/v1/recommend", {"user": "u"})
        for reply in replies:
            problem(reply, "sessions-unavailable", 503, "nothing was stored")
            assert reply.headers["retry-after"] == "1"
        assert any("is held by another process; nothing was stored" in reply.text for reply in replies)
        assert read.status_code == 200  # reads do not wait for whoever writes
        assert (await client.post("/v1/events", {"user": "u0", "items": ["i3"]})).json()["events"] == 1

    talk(plain, what, open_store(f"sqlite:{path}"), deadline_ms=300)
    with sqlite3.connect(path) as file:
        assert file.execute("SELECT user, events FROM users ORDER BY user").fetchall() == [("u", 1), ("u0", 1)]
    file.close()


def test_what_was_refused_is_not_written_later_and_what_waited_is(tmp_path: Path) -> None:
    async def what(store: SqliteStore) -> None:
        with held(tmp_path / "s.db"):
            patient = [asyncio.create_task(store.append("patient", [f"i{n}"], LATE)) for n in range(20)]
            with pytest.raises(Unavailable) as refused:
                await store.append("hasty", ["i1"], 0.05)
            assert refused.value.reason == "is held by another process; nothing was stored"
            gone = asyncio.create_task(store.append("gone", ["i1"], LATE))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.wait([gone])
        assert await asyncio.gather(*patient) == list(range(1, 21))
        assert await store.past("patient", LATE) == Past(20, [f"i{n}" for n in range(20)])
        assert await store.past("hasty", LATE) == await store.past("gone", LATE) == Past(0, [])

    on(tmp_path / "s.db", what)


def test_a_write_that_has_begun_is_not_said_to_be_undone(tmp_path: Path) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow(file: sqlite3.Connection) -> int:
        entered.set()
        assert go.wait(LATE)
        return 1

    async def whole() -> None:
        one = Writer(sqlite3.connect(tmp_path / "s.db", isolation_level=None, check_same_thread=False))
        with pytest.raises(Unavailable) as refused:
            task = asyncio.create_task(one.write(slow, 0.2))
            assert await asyncio.to_thread(entered.wait, LATE)
            await task
        assert refused.value.reason == "takes too long; whether the events were stored is not known"
        go.set()
        assert await one.write(lambda file: 2, LATE) == 2
        await asyncio.to_thread(one.close)

    asyncio.run(whole())


def test_one_change_that_fails_does_not_take_others_with_it(tmp_path: Path) -> None:
    def insert(value: str) -> Callable[[sqlite3.Connection], Any]:
        return lambda file: file.execute("INSERT INTO t VALUES (?)", (value,))

    async def whole() -> None:
        file = sqlite3.connect(tmp_path / "s.db", isolation_level=None, check_same_thread=False)
        file.execute("CREATE TABLE t (x UNIQUE)")
        one = Writer(file)
        good = await asyncio.gather(
            one.write(insert("a"), LATE), one.write(insert("\ud800"), LATE), one.write(insert("b"), LATE),
            return_exceptions=True,
        )  # fmt: skip
        assert isinstance(good[1], UnicodeEncodeError) and not isinstance(good[0], Exception)
        with pytest.raises(Unavailable, match="UNIQUE constraint failed") as refused:
            await one.write(insert("a"), LATE)
        assert refused.value.reason == "fails; nothing was stored"
        assert await one.write(lambda file: file.execute("SELECT x FROM t").fetchall(), LATE) == [("a",), ("b",)]
        await asyncio.to_thread(one.close)

    asyncio.run(whole())


def test_those_who_wait_are_bounded(tmp_path: Path) -> None:
    async def what(store: SqliteStore) -> None:
        with held(tmp_path / "s.db"):
            waiting = [asyncio.create_task(store.append(f"u{n}", ["i"], LATE)) for n in range(MOST_CALLS)]
            await asyncio.sleep(0)
            with pytest.raises(Unavailable) as refused:
                await store.append("more", ["i"], LATE)
            assert refused.value.reason == f"has {MOST_CALLS} calls that wait already; nothing was stored"
        assert await asyncio.gather(*waiting) == [1] * MOST_CALLS

    on(tmp_path / "s.db", what)


def test_writes_that_wait_share_a_transaction(tmp_path: Path) -> None:
    async def what(store: SqliteStore) -> None:
        with held(tmp_path / "s.db"):
            waiting = [asyncio.create_task(store.append(f"u{n}", ["i"], LATE)) for n in range(100)]
            await asyncio.sleep(0.05)
            begun: list[str] = []
            store._writer._file.set_trace_callback(begun.append)
        await asyncio.gather(*waiting)
        assert begun.count("COMMIT") <= -(-100 // writing.TOGETHER) + 1

    on(tmp_path / "s.db", what)


def test_events_of_one_user_wait_for_each_other_within_their_time(plain: Engine) -> None:
    class Slow(MemoryStore):
        async def append(self, user: str, items: list[str], within: float, noting: Noting | None = None) -> int:
            await asyncio.sleep(0.3)
            return await super().append(user, items, within, noting)

    async def what(client: Client) -> None:
        first = asyncio.create_task(client.post("/v1/events", {"user": "u", "items": ["i1"], "recommend": False}))
        await asyncio.sleep(0.05)
        late = await client.post("/v1/events", {"user": "u", "items": ["i2"], "deadline_ms": 50})
        problem(late, "sessions-unavailable", 503, "earlier events of this user are not stored yet; nothing was stored")
        assert (await first).json()["events"] == 1
        assert await client.service.store.past("u", 1.0) == Past(1, ["i1"])

    talk(plain, what, Slow(), deadline_ms=20_000)


def test_what_an_event_waited_for_its_store_is_not_given_again_to_its_answer(plain: Engine) -> None:
    class Slow(MemoryStore):
        async def append(self, user: str, items: list[str], within: float, noting: Noting | None = None) -> int:
            await asyncio.sleep(within)
            return await super().append(user, items, within, noting)

    async def what(client: Client) -> None:
        asked: list[float] = []
        ask = client.service.batcher.ask

        async def noted(questions: Any, within: float, hasty: bool) -> Any:
            asked.append(within)
            return await ask(questions, within, hasty)

        client.service.batcher.ask = noted  # pyright: ignore[reportAttributeAccessIssue]
        reply = await client.post("/v1/events", {"user": "u", "items": ["i1"], "deadline_ms": 400})
        assert reply.json()["events"] == 1
        assert 0 <= asked[0] < 0.2

    talk(plain, what, Slow())


def test_a_redis_that_never_replies(plain: Engine) -> None:
    pytest.importorskip("redis")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        store: HistoryStore = open_store(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")

        async def what(client: Client) -> None:
            started = time.monotonic()
            for _ in range(5):
                wrote = await client.post("/v1/events", {"user": "u", "items": ["i1"], "deadline_ms": 30})
                read = await client.post("/v1/recommend", {"user": "u", "deadline_ms": 30})
                problem(wrote, "sessions-unavailable", 503, "whether the events were stored is not known")
                problem(read, "sessions-unavailable", 503, "the store of sessions cannot be reached; requests with")
            assert time.monotonic() - started < LATE

        talk(plain, what, store)


def test_who_asks_for_unknown_items_waits_for_the_batch_as_others_do(
    plain: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = threading.Event(), threading.Event()
    by_route = plain.runner.by_route

    def slow(*arguments: Any) -> Any:
        entered.set()
        assert go.wait(LATE)
        return by_route(*arguments)

    async def what(client: Client) -> None:
        unknown = {"history": ["?"]}
        problem(await client.post("/v1/recommend", unknown), "unknown-item", 422, "got '?'")  # nobody is answered
        monkeypatch.setattr(plain.runner, "by_route", slow)
        first = asyncio.create_task(client.post("/v1/recommend", {"history": ["i1"]}))
        assert await asyncio.to_thread(entered.wait, LATE)
        waits = asyncio.create_task(client.post("/v1/recommend", unknown))
        hasty = await client.post("/v1/recommend", {**unknown, "deadline_ms": 30})  # refused within its own time
        problem(hasty, "unknown-item", 422, "got '?'")
        assert not waits.done()
        go.set()
        problem(await waits, "unknown-item", 422, "got '?'")
        assert (await first).status_code == 200

    talk(plain, what)
