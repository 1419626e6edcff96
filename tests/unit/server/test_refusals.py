"""Every request that is not answered: its type, its status, what it says, and that nothing else leaks."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from leanrec.engine.engine import Engine
from leanrec.server.problems import STATUS
from leanrec.server.stores import MemoryStore, Noting, Unavailable
from unit.server.conftest import Client, problem, talk

LONG = "x" * 513


@pytest.mark.parametrize(
    ("body", "kind", "detail"),
    [
        ({}, "bad-request", "expected exactly one of history, user, histories and users, got none"),
        ({"history": ["i1"], "user": "u"}, "bad-request", "histories and users, got history and user"),
        ({"history": "i1"}, "bad-request", "Expected `array | null`, got `str` - at `$.history`; see /openapi.json"),
        ({"history": ["i1"], "n": 3}, "bad-request", "Object contains unknown field `n`"),
        ({"history": ["i1"], "k": 0}, "bad-request", "Expected `int` >= 1 - at `$.k`"),
        ({"history": ["i1"], "k": 51}, "over-limit", "expected k of at most 50, got 51; the server sets this by --k"),
        ({"history": ["i1"], "budget": -1}, "bad-request", "Expected `float` > 0.0 - at `$.budget`"),
        ({"history": ["i1"], "budget": 0.001}, "bad-request", "expected a budget of at least"),
        ({"history": [LONG]}, "bad-request", "Expected `str` of length <= 512"),
        (
            {"history": ["i1"] * 21},
            "over-limit",
            "expected history of at most 20, got 21; the server sets this by --history",
        ),
        ({"histories": [["i1"] * 21]}, "over-limit", "expected histories of at most 20, got 21"),
        ({"history": ["i1"], "deny": ["i1"] * 21}, "over-limit", "expected deny of at most 20, got 21"),
        (
            {"histories": [["i1"]] * 6},
            "over-limit",
            "expected histories of at most 5, got 6; the server sets this by --users",
        ),
        ({"users": ["u"] * 6}, "over-limit", "expected users of at most 5, got 6"),
        ({"history": []}, "bad-request", "expected at least one item key, got an empty history"),
        (
            {"history": ["i999"]},
            "unknown-item",
            "expected at least one known item key, got 'i999' (known keys look like 'i",
        ),
        ({"history": ["i1"], "unknown": "popular"}, "bad-request", "Invalid enum value 'popular' - at `$.unknown`"),
        ({"history": ["i1"], "allow": ["?"]}, "unknown-item", "expected at least one known item key in allow, got '?'"),
        ({"user": "nobody"}, "unknown-user", "got 'nobody'; send some to /v1/events first"),
    ],
)
def test_requests_that_cannot_be_answered(routed: Engine, body: dict[str, Any], kind: str, detail: str) -> None:
    async def what(client: Client) -> None:
        problem(await client.post("/v1/recommend", body), kind, STATUS[kind], detail)
        assert f'leanrec_refused_total{{problem="{kind}"}} 1.0' in (await client.get("/metrics")).text

    talk(routed, what, k=50, history=20, users=5)


@pytest.mark.parametrize(
    ("content", "headers", "kind", "detail"),
    [
        (b"", {}, "not-json", "expected a body of JSON, got something else: Input data was truncated"),
        (b"{", {}, "not-json", "Input data was truncated"),
        (b'{"user": "\xff"}', {}, "not-json", "expected a body of JSON, got something else"),
        (b'{"user": "\\ud800"}', {}, "not-json", "expected a body of JSON, got something else"),
        (b"[" * 100_000, {}, "bad-request", "Expected `object`, got `array`"),
        (b"[]", {}, "bad-request", "Expected `object`, got `array`"),
        (b'{"k": 1e999}', {}, "bad-request", "the body does not fit"),
        (b"{}", {"content-type": "text/csv; charset=utf-8"}, "not-json-type", "application/json, got 'text/csv'"),
        (
            b" " * 200_001,
            {},
            "too-large",
            "expected a body of at most 200000 bytes, got 200001; the server sets this by",
        ),
    ],
)
def test_bodies_that_are_none(routed: Engine, content: bytes, headers: dict[str, str], kind: str, detail: str) -> None:
    async def what(client: Client) -> None:
        headers.setdefault("content-type", "application/json")
        for path in ("/v1/recommend", "/v1/events"):
            reply = await client.http.post(path, content=content, headers=headers)
            problem(reply, kind, STATUS[kind], detail)

    talk(routed, what, body_bytes=200_000)


def test_a_body_that_does_not_say_how_long_it_is(routed: Engine) -> None:
    async def endless() -> Any:
        for _ in range(10_000):
            yield b" " * 1000

    async def what(client: Client) -> None:
        reply = await client.http.post("/v1/recommend", content=endless(), headers={"content-type": "application/json"})
        problem(reply, "too-large", 413, "got more than 5000; the server sets this by --body-bytes")

    talk(routed, what, body_bytes=5000)


def test_paths_and_methods_that_there_are_not(routed: Engine) -> None:
    async def what(client: Client) -> None:
        problem(
            await client.get("/v2/recommend"), "not-found", 404, "expected a path of /openapi.json, got another one"
        )
        reply = await client.http.put("/v1/recommend")
        problem(reply, "method-not-allowed", 405, "expected another method than PUT")
        assert reply.headers["allow"] == "POST"
        for query, detail in (
            ("limit=0", "expected limit in 1..100, got '0'"),
            ("limit=1e3", "expected limit in 1..100, got '1e3'"),
            ("limit=٣", "expected limit in 1..100"),
            (f"q={LONG}", "expected q of at most 512 characters, got 513"),
        ):
            problem(await client.get(f"/v1/items?{query}"), "bad-request", 422, detail)
        problem(await client.http.delete("/v1/events"), "bad-request", 422, "expected a user to forget, got none")

    talk(routed, what)


def test_the_key(routed: Engine) -> None:
    async def what(client: Client) -> None:
        for path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/app.js", "/style.css"):
            assert (await client.get(path)).status_code == 200
        refused = await client.get("/v1/model")
        problem(refused, "unauthorized", 401, "expected the server's key in X-API-Key or as a bearer token, got none")
        assert refused.headers["www-authenticate"] == "Bearer"
        for wrong in ({"X-API-Key": "no"}, {"X-API-Key": "schlüssel".encode()}, {"Authorization": "Bearer no"}):
            problem(await client.get("/v1/model", headers=wrong), "unauthorized", 401, "got another")
        problem(await client.get("/v1/model", headers={"Authorization": "Basic key"}), "unauthorized", 401, "got none")
        for right in ({"X-API-Key": "key"}, {"Authorization": "bearer key"}, {"X-API-Key": "admin"}):
            assert (await client.get("/v1/model", headers=right)).status_code == 200
        problem(await client.post("/v1/reload", {}, headers={"X-API-Key": "key"}), "unauthorized", 401, "got another")

    talk(routed, what, api_key="key", admin_key="admin")


def test_nobody_reloads_without_a_key(routed: Engine) -> None:
    async def what(client: Client) -> None:
        problem(await client.post("/v1/reload", {}), "forbidden", 403, "expected a server with an admin key to reload")

    talk(routed, what)


def test_a_fault_of_ours_says_nothing_of_its_inside(
    routed: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(routed.runner, "by_route", broken)

    async def what(client: Client) -> None:
        reply = await client.post("/v1/recommend", {"history": ["i1"]})
        problem(reply, "internal", 500, "a fault of leanrec; the log of the server says more")
        assert "secret" not in reply.text

    with caplog.at_level(logging.ERROR, "leanrec.server"):
        talk(routed, what)
    assert "secret inside" in caplog.text


def test_deadlines_and_the_queue_by_http(routed: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    entered, go = threading.Event(), threading.Event()
    by_route = routed.runner.by_route

    def slow(*arguments: Any) -> Any:
        entered.set()
        assert go.wait(30)
        return by_route(*arguments)

    monkeypatch.setattr(routed.runner, "by_route", slow)

    async def what(client: Client) -> None:
        body = {"history": ["i1"]}
        first = asyncio.create_task(client.post("/v1/recommend", body))
        assert await asyncio.to_thread(entered.wait, 30)
        late = await client.post("/v1/recommend", {**body, "deadline_ms": 5})
        problem(late, "deadline", 504, "expected an answer within 0.005 s, got none")
        assert late.headers["retry-after"] == "1"
        waits = asyncio.create_task(client.post("/v1/recommend", body))
        await asyncio.sleep(0.01)
        full = await client.post("/v1/recommend", {"histories": [["i1"], ["i2"]]})
        problem(full, "overloaded", 429, "expected at most 2 users to wait")
        assert int(full.headers["retry-after"]) >= 1
        event = (await client.post("/v1/events", {"user": "u", "items": ["i1"], "deadline_ms": 5})).json()
        assert event["events"] == 1 and event["answer"] is None  # kept, though there was no time for an answer
        assert event["problem"]["type"] in ("urn:leanrec:deadline", "urn:leanrec:overloaded")
        go.set()
        assert (await first).status_code == (await waits).status_code == 200

    talk(routed, what, queue=2, deadline_ms=30_000)


class Gone(MemoryStore):
    """A store that cannot be reached."""

    async def append(self, user: str, items: list[str], within: float, noting: Noting | None = None) -> int:
        raise Unavailable("no route to secret-host")

    async def past(self, user: str, within: float) -> Any:
        raise Unavailable("no route to secret-host")

    async def forget(self, user: str, within: float) -> None:
        raise Unavailable("no route to secret-host")


def test_without_its_store_a_server_answers_what_it_can(routed: Engine) -> None:
    async def what(client: Client) -> None:
        for reply in (
            await client.post("/v1/events", {"user": "u", "items": ["i1"]}),
            await client.post("/v1/recommend", {"user": "u"}),
            await client.http.delete("/v1/events", params={"user": "u"}),
        ):
            problem(
                reply, "sessions-unavailable", 503, "the store of sessions cannot be reached; requests with a history"
            )
            assert reply.headers["retry-after"] == "1" and "secret-host" not in reply.text
        assert (await client.post("/v1/recommend", {"history": ["i1"]})).status_code == 200
        assert (await client.get("/readyz")).status_code == 200

    talk(routed, what, Gone())


def test_nothing_is_kept_of_an_event_that_is_refused(routed: Engine) -> None:
    async def what(client: Client) -> None:
        for wrong, kind in (
            ({"items": ["i1"], "budget": 0.001}, "bad-request"),
            ({"items": []}, "bad-request"),
            ({"items": ["i1"], "allow": ["?"]}, "unknown-item"),
        ):
            problem(await client.post("/v1/events", {"user": "u", **wrong}), kind, STATUS[kind], "")
        assert (await client.service.store.past("u", 30.0)).events == 0

    talk(routed, what)


def test_a_server_that_stops_is_alive_and_not_ready(routed: Engine) -> None:
    async def what(client: Client) -> None:
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        client.service.ready = False
        problem(await client.get("/readyz"), "draining", 503, "expected a server that takes requests")
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        assert (await client.post("/v1/recommend", {"history": ["i1"]})).status_code == 200  # those that still come

    talk(routed, what)


def test_a_client_that_leaves_is_no_fault(routed: Engine, caplog: pytest.LogCaptureFixture) -> None:
    async def what(client: Client) -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/recommend",
            "headers": [(b"content-type", b"application/json")],
        }
        sent: list[Any] = []

        async def receive() -> dict[str, str]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await client.app(scope, receive, send)
        assert sent[0]["status"] == 400

    talk(routed, what)
    assert "a fault of leanrec" not in caplog.text
