"""Addresses with passwords, keys that are no text, and stores in which somebody else wrote."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leanrec.core.errors import ConfigError
from leanrec.engine.engine import Engine
from leanrec.server.settings import Settings
from leanrec.server.stores import open_store
from redis_server import RedisServer
from unit.server.conftest import Client, problem, talk

SECRET = "s3cret"
NO_TEXT = "expected a query of UTF-8 text as %XX, got other bytes"
FOREIGN = "the store of sessions has something else than a history for 'u'"


@pytest.mark.parametrize(
    "address",
    [
        f"redi://:{SECRET}@host/0",
        f"http://user:{SECRET}@host",
        f"redis:/:{SECRET}@host",
        f"redis:{SECRET}",
        f":{SECRET}@host",
        f"postgres://host?password={SECRET}",
        f"redis://:{SECRET}",
        f"redis://host:{SECRET}/0",
        f"redis://user:pa/{SECRET}@host:6379/0",
        f"redis://[{SECRET}@host/0",
        f"redis://host/0?socket_timeout={SECRET}",
    ],
)
def test_no_message_shows_a_password(address: str) -> None:
    pytest.importorskip("redis")
    with pytest.raises(ConfigError, match="expected --sessions ") as refused:
        open_store(address)
    shown: BaseException | None = refused.value
    assert SECRET not in str(shown) and refused.value.__suppress_context__ | (shown.__context__ is None)


@pytest.mark.parametrize("name", ["api_key", "admin_key"])
def test_a_key_of_other_bytes_is_refused_at_the_start(name: str) -> None:
    option = "--" + name.replace("_", "-")
    settings: dict[str, Any] = {name: b"\xff".decode("utf-8", "surrogateescape")}
    with pytest.raises(ConfigError, match=f"expected {option} of UTF-8 text, got other bytes; choose another key"):
        Settings(**settings)


def test_keys_of_all_bytes(plain: Engine) -> None:
    async def what(client: Client) -> None:
        for wrong in (b"\xff\xfe", "schlüssel".encode("latin-1"), b"\xed\xa0\x80"):
            problem(await client.get("/v1/model", headers={"X-API-Key": wrong}), "unauthorized", 401, "got another")
        right = await client.get("/v1/model", headers={"X-API-Key": "schlüssel".encode()})
        assert right.status_code == 200

    talk(plain, what, api_key="schlüssel")


@pytest.mark.parametrize("user", ["%ff", "%ed%a0%80", "a%c3", "%80b"])
def test_users_that_are_no_text(plain: Engine, user: str) -> None:
    async def what(client: Client) -> None:
        await client.post("/v1/events", {"user": "\ufffd", "items": ["i1"]})
        reply = await client.http.delete(f"/v1/events?user={user}")
        problem(reply, "bad-request", 422, NO_TEXT)
        problem(await client.get(f"/v1/items?q={user}"), "bad-request", 422, NO_TEXT)
        assert (await client.service.store.past("\ufffd", 1.0)).events == 1  # another user's

    talk(plain, what)


async def refused_until_forgotten(client: Client, found: str) -> None:
    """That whatever lies under the user u is refused and kept until the user is forgotten."""
    for path, body in (("/v1/events", {"user": "u", "items": ["i1"]}), ("/v1/recommend", {"user": "u"})):
        reply = await client.post(path, body)
        problem(reply, "sessions-unavailable", 503, FOREIGN)
        assert "retry-after" not in reply.headers and found not in reply.text
    good = await client.post("/v1/events", {"user": "other", "items": ["i1"]})
    assert good.status_code == 200
    assert (await client.http.delete("/v1/events?user=u")).status_code == 204
    assert (await client.post("/v1/events", {"user": "u", "items": ["i1"]})).json()["events"] == 1


@pytest.mark.parametrize(
    ("events", "items"),
    [
        (1, b"not json"),
        (1, '{"a": 1}'),
        (1, b'["a", 1]'),
        (1, b'["\xff"]'),
        (1, None),
        (1, 7),
        (1, 1.5),
        ("many", b'["i1"]'),
        (b"\xff", b'["i1"]'),
        (-1, b'["i1"]'),
        (2**63 - 1, b'["i1"]'),
        (None, b'["i1"]'),
    ],
)
def test_something_else_in_the_file(plain: Engine, tmp_path: Path, events: Any, items: Any) -> None:
    path = tmp_path / "s.db"
    store = open_store(f"sqlite:{path}")
    with sqlite3.connect(path) as file:
        file.execute("INSERT INTO users VALUES ('u', ?, ?)", (events, items))
    file.close()
    talk(plain, lambda client: refused_until_forgotten(client, "not json"), store)


def test_text_in_the_file_that_is_no_utf8(plain: Engine, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = open_store(f"sqlite:{path}")
    with sqlite3.connect(path) as file:
        file.execute("INSERT INTO users VALUES ('u', 1, CAST(x'5b22ff225d' AS TEXT))")
    file.close()
    talk(plain, lambda client: refused_until_forgotten(client, "\ufffd"), store)


def test_a_table_without_its_key(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "s.db") as file:
        file.execute("CREATE TABLE users (user TEXT, events INTEGER, items BLOB)")
    file.close()
    with pytest.raises(
        ConfigError, match=r"expected a table users with the columns user .its key., events, items, got"
    ):
        open_store(f"sqlite:{tmp_path / 's.db'}")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize(
    "commands",
    [
        [("SET", "leanrec:{u}:items", "text")],
        [("HSET", "leanrec:{u}:events", "a", "1"), ("RPUSH", "leanrec:{u}:items", "i1")],
        [("SET", "leanrec:{u}:events", "many"), ("RPUSH", "leanrec:{u}:items", "i1")],
        [("SET", "leanrec:{u}:events", b"\xff"), ("RPUSH", "leanrec:{u}:items", "i1")],
        [("SET", "leanrec:{u}:events", "9" * 30)],
    ],
)
def test_something_else_in_redis(plain: Engine, redis: RedisServer, commands: list[tuple[Any, ...]]) -> None:
    client = pytest.importorskip("redis").Redis(port=redis.port)
    client.flushall()
    for command in commands:
        client.execute_command(*command)
    before = {key: client.dump(key) for key in client.scan_iter()}

    async def what(asked: Client) -> None:
        problem(await asked.post("/v1/events", {"user": "u", "items": ["i1"]}), "sessions-unavailable", 503, FOREIGN)
        assert {key: client.dump(key) for key in client.scan_iter()} == before  # all or nothing
        assert all(client.ttl(key) == -1 for key in before)
        await refused_until_forgotten(asked, "many")

    talk(plain, what, open_store(redis.url))


def test_items_in_redis_that_are_no_utf8(plain: Engine, redis: RedisServer) -> None:
    client = pytest.importorskip("redis").Redis(port=redis.port)
    client.flushall()
    client.rpush("leanrec:{u}:items", b"\xff")

    async def what(asked: Client) -> None:
        problem(await asked.post("/v1/recommend", {"user": "u"}), "sessions-unavailable", 503, FOREIGN)
        replies = await asyncio.gather(*(asked.post("/v1/recommend", {"user": f"u{n}"}) for n in range(5)))
        assert {reply.status_code for reply in replies} == {404}

    talk(plain, what, open_store(redis.url))
