"""Users and items that the model does not know: nobody else is harmed, and events are kept until a model knows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from leanrec.core.plain import Catalog
from leanrec.engine.engine import Engine
from leanrec.server.problems import STATUS
from leanrec.server.stores import open_store
from unit.server.conftest import ITEMS, Client, live_of, talk


def keys(answer: dict[str, Any]) -> list[str]:
    return [item["item"] for item in answer["items"]]


def wanted(engine: Engine, *history: str, **terms: Any) -> list[str]:
    return [item.item for item in engine.recommend([history], 5, **terms)[0].items]


@pytest.fixture
def yesterday(plain: Engine) -> Engine:
    """The plain model, to which i5 and i40 are unknown."""
    names = tuple({"i5": "gone-5", "i40": "gone-40"}.get(key, key) for key in plain.catalog.keys)
    return Engine(plain.runner, Catalog(names, names, plain.catalog.counts), plain.flops, plain.flops_full)


def test_unknown_users_of_a_list_have_problems_of_their_own(routed: Engine) -> None:
    async def what(client: Client) -> None:
        found = (await client.post("/v1/recommend", {"histories": [["?"], ["i1"], [], ["i2", "?"]], "k": 5})).json()
        assert [one.get("type") for one in found] == ["urn:leanrec:unknown-item", None, "urn:leanrec:bad-request", None]
        assert found[0]["status"] == STATUS["unknown-item"] and "got '?' (known keys look like" in found[0]["detail"]
        assert "got an empty history" in found[2]["detail"] and "fallback" not in found[1]
        assert [keys(found[1]), keys(found[3])] == [wanted(routed, "i1"), wanted(routed, "i2")]
        await client.post("/v1/events", {"user": "u", "items": ["i1"], "recommend": False})
        found = (await client.post("/v1/recommend", {"users": ["nobody", "u"], "k": 5})).json()
        assert found[0]["type"] == "urn:leanrec:unknown-user" and keys(found[1]) == wanted(routed, "i1")
        alone = await client.post("/v1/recommend", {"users": ["nobody"]})
        assert alone.status_code == 200 and alone.json() == found[:1]
        assert 'leanrec_refused_total{problem="unknown-user"} 2.0' in (await client.get("/metrics")).text

    talk(routed, what)


def test_unknown_users_fall_back_on_popular_items_where_that_is_asked_for(routed: Engine) -> None:
    catalog = routed.catalog
    popular = list(catalog.keys[:5])

    async def what(client: Client) -> None:
        terms = {"k": 5, "unknown": "fallback"}
        for body in ({"history": ["?"]}, {"history": []}, {"user": "nobody"}):
            found = (await client.post("/v1/recommend", body | terms)).json()
            assert keys(found) == popular and found["unknown"] == body.get("history", [])
            assert (found["fallback"], found["route"], found["flops_ratio"]) == (True, "fallback", 0.0)
            assert [one["score"] for one in found["items"]] == list(catalog.counts[:5])
        found = (await client.post("/v1/recommend", {"histories": [["i1"], ["?"]], **terms})).json()
        assert keys(found[0]) == wanted(routed, "i1") and "fallback" not in found[0]
        assert keys(found[1]) == popular and found[1]["fallback"]
        found = await client.post("/v1/recommend", {"users": ["nobody", "none"], "deny": popular[:1], **terms})
        assert [keys(one)[0] for one in found.json()] == popular[1:2] * 2
        found = (await client.post("/v1/events", {"user": "new", "items": ["?"], **terms})).json()
        assert keys(found["answer"]) == popular and found["answer"]["fallback"] and found["events"] == 1

    talk(routed, what)


def test_k_above_the_catalogue_gives_what_there_is(routed: Engine) -> None:
    async def what(client: Client) -> None:
        found = (await client.post("/v1/recommend", {"history": ["i1"], "k": ITEMS + 1, "exclude_seen": True})).json()
        assert len(found["items"]) == ITEMS - 1
        found = (await client.post("/v1/events", {"user": "u", "items": ["i1"], "k": ITEMS + 1})).json()
        assert len(found["answer"]["items"]) == ITEMS

    talk(routed, what)


def test_events_of_unknown_items_begin_to_count_with_a_model_that_knows_them(
    plain: Engine, yesterday: Engine, address: str
) -> None:
    user = f"user of {address}"

    async def what(client: Client) -> None:
        async def add(*items: str, user: str = user) -> dict[str, Any]:
            reply = await client.post("/v1/events", {"user": user, "items": list(items), "k": 5})
            assert reply.status_code == 200, reply.text
            return reply.json()

        first = await add("i1", "i2")
        assert keys(first["answer"]) == wanted(yesterday, "i1", "i2")
        for unknown, events in (("i40", 3), ("i5", 4)):
            found = await add(unknown)
            assert (found["events"], found["unknown"], found["problem"]) == (events, [unknown], None)
            assert keys(found["answer"]) == keys(first["answer"])
        found = await add("i7", "i40")  # one step, since only known items take steps
        assert keys(found["answer"]) == wanted(yesterday, "i1", "i2", "i7") and found["events"] == 6
        assert client.service.live.sessions.steps == 1
        stranger = await add("i5", user=f"stranger of {address}")
        assert stranger["answer"] is None and stranger["problem"]["type"] == "urn:leanrec:unknown-item"
        assert "leanrec_unknown_events_total 4.0" in (await client.get("/metrics")).text

        assert (await client.post("/v1/reload", {}, headers={"X-API-Key": "secret"})).status_code == 200
        history = ["i1", "i2", "i40", "i5", "i7", "i40"]
        found = (await client.post("/v1/recommend", {"user": user, "k": 5})).json()
        assert keys(found) == wanted(plain, *history) != wanted(plain, "i1", "i2", "i7") and found["unknown"] == []
        found = await add("i9")
        assert keys(found["answer"]) == wanted(plain, *history, "i9") and found["events"] == 7
        found = await add("i5", user=f"stranger of {address}")
        assert keys(found["answer"]) == wanted(plain, "i5", "i5") and found["events"] == 2

    talk(
        yesterday,
        what,
        open_store(address),
        opener=lambda path, settings: replace(live_of(plain, settings), path=path),
        admin_key="secret",
    )
