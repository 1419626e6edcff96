"""What every store promises, and what is special about each."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from leanrec.core.errors import ConfigError
from leanrec.server.stores import HistoryStore, MemoryStore, Noting, Past, Unavailable, open_store
from leanrec.server.stores.base import KEPT, NOTED
from redis_server import RedisServer

WAIT = 30.0
"""Seconds that a store may take, so that no busy machine is too slow."""
AWKWARD = ["🎧 naïve 東京", "a b,c", '"quoted"', "{x}:items", "", "'; DROP TABLE users; --"]


def stored(address: str, what: Callable[[HistoryStore], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        store = open_store(address)
        try:
            return await what(store)
        finally:
            await store.close()

    return asyncio.run(whole())


def test_what_is_appended_is_known(address: str) -> None:
    async def what(store: HistoryStore) -> None:
        assert await store.past("nobody", WAIT) == Past(0, [])
        for number, user in enumerate(AWKWARD):
            assert await store.append(user, AWKWARD[: number + 1], WAIT) == number + 1
            assert await store.append(user, ["last"], WAIT) == number + 2
        for number, user in enumerate(AWKWARD):
            assert await store.past(user, WAIT) == Past(number + 2, [*AWKWARD[: number + 1], "last"])
        await store.forget(AWKWARD[0], WAIT)
        assert await store.past(AWKWARD[0], WAIT) == Past(0, [])
        assert (await store.past(AWKWARD[1], WAIT)).events == 3
        await store.forget("nobody", WAIT)
        for user in AWKWARD:
            await store.forget(user, WAIT)

    stored(address, what)


def test_the_newest_items_are_kept(address: str) -> None:
    async def what(store: HistoryStore) -> None:
        assert await store.append("u", [f"i{n}" for n in range(KEPT)], WAIT) == KEPT
        assert await store.append("u", ["x", "y"], WAIT) == KEPT + 2
        past = await store.past("u", WAIT)
        assert past.events == KEPT + 2 and len(past.items) == KEPT and past.items[0] == "i2" and past.items[-1] == "y"
        await store.forget("u", WAIT)

    stored(address, what)


def test_nothing_is_lost_between_many(address: str) -> None:
    async def what(store: HistoryStore) -> None:
        totals = await asyncio.gather(*(store.append(f"m{n % 3}", [f"i{n}"], WAIT) for n in range(60)))
        assert sorted(totals) == sorted(list(range(1, 21)) * 3)
        for user in range(3):
            assert sorted((await store.past(f"m{user}", WAIT)).items) == sorted(f"i{n}" for n in range(user, 60, 3))
            await store.forget(f"m{user}", WAIT)

    stored(address, what)


def test_notes_hold_new_events_and_those_before_them(address: str) -> None:
    async def what(store: HistoryStore) -> None:
        known = await store.notes("", WAIT)
        mark = known[-1][0] if known else ""
        await store.append("n", ["a", "b"], WAIT)
        for number, items in enumerate((["c"], AWKWARD, [str(n) for n in range(NOTED + 3)])):
            await store.append("n", items, WAIT, Noting(2, 1000))
            assert len(await store.notes(mark, WAIT)) == number + 1
        notes = await store.notes(mark, WAIT)
        assert [(note.items, note.new) for _, note in notes] == [
            (["a", "b", "c"], 1),
            (["b", "c", *AWKWARD], len(AWKWARD)),
            ([str(n) for n in range(1, NOTED + 3)], NOTED),
        ]
        assert all(abs(note.at - time.time()) < WAIT for _, note in notes)
        assert await store.notes(notes[0][0], WAIT) == notes[1:] and await store.notes(notes[2][0], WAIT) == []
        assert (await store.past("n", WAIT)).events == 2 + 1 + len(AWKWARD) + NOTED + 3
        await store.forget("n", WAIT)
        assert len(await store.notes(mark, WAIT)) == 3

    stored(address, what)


def test_the_newest_notes_are_kept(address: str) -> None:
    async def what(store: HistoryStore) -> None:
        for number in range(300):
            await store.append("k", [f"i{number}"], WAIT, Noting(1, 50))
        notes = await store.notes("", WAIT)
        assert 50 <= len(notes) < 300 and notes[-1][1].items == ["i298", "i299"]
        await store.forget("k", WAIT)

    stored(address, what)


def test_memory_is_bounded() -> None:
    store = MemoryStore(most=10)

    async def fill() -> None:
        for user in range(8):
            await store.append(str(user), ["a", "b"], WAIT)
            assert store.held <= 10 and store.held == sum(len(past.items) for past in store._users.values())
        assert await store.past("0", WAIT) == Past(0, []) and len(store) == 5
        assert await store.append("big", ["x"] * 20, WAIT) == 20 and len(store) == 1

    asyncio.run(fill())


def test_a_file_outlives_the_process_and_is_shared(tmp_path: Path) -> None:
    address = f"sqlite:{tmp_path / 'sessions.db'}"

    async def both(store: HistoryStore) -> None:
        other = open_store(address)
        await asyncio.gather(*(one.append("u", ["x"], WAIT) for one in (store, other) for _ in range(20)))
        await other.close()

    stored(address, both)
    assert stored(address, lambda store: store.past("u", WAIT)) == Past(40, ["x"] * 40)


@pytest.mark.parametrize("note", [b"", b"[]", b"\xff", 7])
def test_a_note_of_another_program_is_told(note: bytes | int, tmp_path: Path) -> None:
    address = f"sqlite:{tmp_path / 'sessions.db'}"
    stored(address, lambda store: store.append("u", ["a"], WAIT, Noting(1, 10)))
    with sqlite3.connect(tmp_path / "sessions.db") as other:
        other.execute("INSERT INTO notes (note) VALUES (?)", (note,))
    other.close()
    with pytest.raises(Unavailable, match="expected notes of events, got something else: "):
        stored(address, lambda store: store.notes("", WAIT))


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to be looked at" * 100)
    with pytest.raises(ConfigError, match=r"cannot keep sessions in .*text: file is not a database; name another file"):
        open_store(f"sqlite:{tmp_path / 'text'}")
    with pytest.raises(ConfigError, match="unable to open database file"):
        open_store(f"sqlite:{tmp_path / 'no' / 'such.db'}")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE users (name TEXT)")
    other.close()
    with pytest.raises(
        ConfigError, match=r"expected a table users with the columns user .its key., events, items, got name; name"
    ):
        open_store(f"sqlite:{tmp_path / 'other.db'}")


@pytest.mark.parametrize("address", ["", "disk", "sqlite:", "http://host"])
def test_no_such_store(address: str) -> None:
    with pytest.raises(ConfigError, match="expected --sessions memory, sqlite:FILE or redis://HOST:PORT/DB, got "):
        open_store(address)


def test_redis_goes_and_comes_back(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()

    async def what(store: HistoryStore) -> None:
        assert await store.append("u", ["a"], WAIT) == 1
        server.kill()
        for call in (store.append("u", ["lost"], WAIT), store.past("u", WAIT), store.forget("u", WAIT)):
            with pytest.raises(Unavailable, match="Redis answers: "):
                await call
        server.start()
        assert await store.append("u", ["b"], WAIT) == 2
        assert await store.past("u", WAIT) == Past(2, ["a", "b"])

    try:
        stored(server.url, what)
    finally:
        server.kill()


def test_a_key_of_notes_that_is_another_programs(tmp_path: Path) -> None:
    """No user is to blame for it, and nothing is stored."""
    client = pytest.importorskip("redis")
    server = RedisServer(tmp_path)
    server.start()

    async def what(store: HistoryStore) -> None:
        with pytest.raises(Unavailable, match="the key leanrec:notes has another type") as error:
            await store.append("u", ["a"], WAIT, Noting(1, 10))
        assert error.value.reason == "has something else in the place of notes of events; nothing was stored"
        assert error.value.lasts and await store.past("u", WAIT) == Past(0, [])
        assert await store.append("u", ["a"], WAIT) == 1

    try:
        with client.Redis.from_url(server.url) as other:
            other.set("leanrec:notes", "text")
        stored(server.url, what)
    finally:
        server.kill()


def test_without_the_client_of_redis() -> None:
    with (
        mock.patch.dict("sys.modules", {"redis": None}),
        pytest.raises(ConfigError, match=r"expected the package redis .*; pip install 'leanrec\[redis\]'"),
    ):
        open_store("redis://localhost:1/0")


def test_an_address_of_redis_that_cannot_be_read() -> None:
    pytest.importorskip("redis")
    with pytest.raises(ConfigError, match="got an address of Redis that cannot be read"):
        open_store("redis://localhost:port/0")
