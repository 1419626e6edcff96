"""A server of a model that reads times: requests and stored histories carry them, and those of no other model do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from leanrec.core.types import TIME
from leanrec.engine.engine import Engine
from leanrec.engine.events import Event
from leanrec.engine.torch_runner import TorchRunner
from leanrec.server.kept import from_texts, to_texts
from leanrec.server.stores import open_store
from timed import DAY, timed_model
from toys import catalog
from unit.server.conftest import Client, problem, talk

ITEMS, START = 40, 1_700_000_000
READS = frozenset({TIME})


@pytest.fixture(scope="module")
def engine() -> Engine:
    model = timed_model(ITEMS, routed=True)
    return Engine(TorchRunner(model), catalog(ITEMS), dict.fromkeys(model.all_routes(), 1), 1)


def history(days: Sequence[int]) -> list[dict[str, Any]]:
    return [{"item": f"i{at + 1}", "time": START + DAY * day} for at, day in enumerate(days)]


def wanted(engine: Engine, events: list[dict[str, Any]]) -> list[str]:
    return [item.item for item in engine.recommend([events], 5)[0].items]


def keys(answer: dict[str, Any]) -> list[str]:
    return [item["item"] for item in answer["items"]]


def test_requests_with_times(engine: Engine) -> None:
    near, far = history([0, 1, 5]), history([0, 100, 500])

    async def what(client: Client) -> None:
        assert (await client.get("/v1/model")).json()["reads"] == ["time"]
        one = await client.post("/v1/recommend", {"history": near, "k": 5})
        assert keys(one.json()) == wanted(engine, near) != wanted(engine, far)
        many = await client.post("/v1/recommend", {"histories": [far, near], "k": 5})
        assert [keys(answer) for answer in many.json()] == [wanted(engine, far), wanted(engine, near)]

    talk(engine, what)


def test_sessions_keep_times(engine: Engine, address: str) -> None:
    events = history([0, 3, 90, 91, 300])

    async def what(client: Client) -> None:
        for at, event in enumerate(events, start=1):
            reply = await client.post(
                "/v1/events", {"user": address, "items": [event, {"item": "?", "time": 1}], "k": 5}
            )
            assert reply.json()["unknown"] == ["?"]
            assert keys(reply.json()["answer"]) == wanted(engine, events[:at])
        client.service.live.sessions.forget(address)
        assert keys((await client.post("/v1/recommend", {"user": address, "k": 5})).json()) == wanted(engine, events)
        more = {"item": "i9", "time": START + 301 * DAY}
        reply = await client.post("/v1/events", {"user": address, "items": [more], "k": 5})  # from the store again
        assert keys(reply.json()["answer"]) == wanted(engine, [*events, more])
        assert (await client.service.store.past(address, 5)).items[0] == f"i1\x1f{START}"

    talk(engine, what, open_store(address))


def test_missing_and_bad_times_are_refused_and_nothing_is_stored(engine: Engine) -> None:
    async def what(client: Client) -> None:
        for body in ({"history": ["i1", "i2"]}, {"histories": [["i1"]]}):
            reply = await client.post("/v1/recommend", body)
            problem(
                reply,
                "bad-request",
                422,
                "expected the time of every event, which the model reads, got the key 'i1' alone",
            )
        reply = await client.post("/v1/events", {"user": "u", "items": ["i1"]})
        problem(reply, "bad-request", 422, 'give {"item": KEY, "time": SECONDS}')
        reply = await client.post("/v1/events", {"user": "u", "items": [{"item": "i1", "time": START * 1000}]})
        problem(reply, "bad-request", 422, "Expected `int` <= 100000000000")
        reply = await client.post("/v1/recommend", {"history": [{"item": "i1"}]})
        problem(reply, "bad-request", 422, "missing required field `time`")
        assert (await client.service.store.past("u", 5)).events == 0

    talk(engine, what)


def test_events_that_were_kept_without_times_are_not_known_to_a_model_that_reads_them(engine: Engine) -> None:
    async def what(client: Client) -> None:
        await client.service.store.append("u", ["i7", "i8"], 5)
        reply = await client.post("/v1/recommend", {"user": "u"})
        problem(reply, "unknown-user", 404, "expected a user with events that have their time, got 'u'")
        event = history([0])[0]
        reply = await client.post("/v1/events", {"user": "u", "items": [event], "k": 5})
        assert keys(reply.json()["answer"]) == wanted(engine, [event])
        assert reply.json()["events"] == 3

    talk(engine, what)


def test_a_model_that_reads_items_keeps_no_times(plain: Engine) -> None:
    async def what(client: Client) -> None:
        assert (await client.get("/v1/model")).json()["reads"] == []
        bare, timed = ({"user": "u", "items": items, "k": 5} for items in (["i1", "i2"], history([0, 9])))
        first = (await client.post("/v1/events", bare)).json()
        assert keys(first["answer"]) == keys((await client.post("/v1/events", timed | {"user": "v"})).json()["answer"])
        for user in ("u", "v"):
            assert (await client.service.store.past(user, 5)).items == ["i1", "i2"]

    talk(plain, what)


def test_events_as_text() -> None:
    events = [Event("a", 7), Event("b\x1f", 8)]
    texts = to_texts(events, READS)
    assert from_texts(texts, (), READS) == events
    assert from_texts(texts, (), frozenset()) == ["a", "b\x1f"]
    assert to_texts(["a", Event("b", 1)], frozenset()) == ["a", "b"]
    assert from_texts(["old", *texts], (), READS) == events
    odd = ["c\x1f9", "d", "e\x1f", "\x1f"]
    assert from_texts(odd, {"c\x1f9"}, frozenset())[:2] == odd[:2]  # keys of the catalogue
    for known in ((), odd):
        assert from_texts(to_texts(odd, frozenset()), known, frozenset()) == odd  # no part of a key is a time


def test_the_description_has_both_forms_of_an_event(plain: Engine) -> None:
    async def what(client: Client) -> None:
        schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
        assert set(schemas["Event"]["required"]) == {"item", "time"}
        forms = schemas["AddEvents"]["properties"]["items"]["items"]["anyOf"]
        assert {"$ref": "#/components/schemas/Event"} in forms and any(form.get("type") == "string" for form in forms)

    talk(plain, what)
