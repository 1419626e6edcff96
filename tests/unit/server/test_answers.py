"""Answers over HTTP against the engine: batching, sessions and reload change none of them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.build import open_run
from leanrec.engine.engine import Engine
from leanrec.server.live import Question, answered
from leanrec.server.stores import open_store
from unit.server.conftest import ITEMS, Client, live_of, problem, talk

KEYS = [f"i{number}" for number in range(1, ITEMS + 1)]
key = st.sampled_from(KEYS)
body = st.fixed_dictionaries(
    {"history": st.lists(key, min_size=1, max_size=14)},
    optional={
        "k": st.integers(1, ITEMS),
        "exclude_seen": st.booleans(),
        "allow": st.lists(key, min_size=1, max_size=10),
        "deny": st.lists(key | st.just("nothing"), max_size=10),
        "budget": st.sampled_from([0.7, 1.0, 5.0]),
    },
)


def expected(engine: Engine, body: dict[str, Any]) -> dict[str, Any]:
    """What the engine answers to a request alone."""
    terms = {name: body[name] for name in ("k", "exclude_seen", "allow", "deny", "budget") if name in body}
    (answer,) = engine.recommend([body["history"]], **terms)
    return {
        "items": [(one.item, one.title) for one in answer.items],
        "scores": [one.score for one in answer.items],
        "rest": (answer.route, answer.flops_ratio, answer.unknown),
    }


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert list(found) == ["items", "route", "flops_ratio", "unknown", "model", "budget"]
    assert [(one["item"], one["title"]) for one in found["items"]] == wanted["items"]
    assert [one["score"] for one in found["items"]] == pytest.approx(wanted["scores"], abs=1e-6)
    assert (found["route"], found["flops_ratio"], found["unknown"]) == wanted["rest"]


@given(bodies=st.lists(body, min_size=1, max_size=12))
@settings(max_examples=25)
def test_batching_changes_no_answer(routed: Engine, bodies: list[dict[str, Any]]) -> None:
    wanted = [expected(routed, one) for one in bodies]

    async def what(client: Client) -> None:
        replies = await asyncio.gather(*(client.post("/v1/recommend", one) for one in bodies))
        for reply, one, given_ in zip(replies, wanted, bodies, strict=True):
            assert reply.status_code == 200, reply.text
            assert_same(reply.json(), one)
            assert (reply.json()["model"], reply.json()["budget"]) == ("0123456789ab", given_.get("budget"))

    talk(routed, what)


def test_many_users_are_answered_with_a_list(routed: Engine) -> None:
    histories = [["i1"], ["i2", "nothing", "i3"], ["i4"] * 12]

    async def what(client: Client) -> None:
        found = (await client.post("/v1/recommend", {"histories": histories, "k": 3})).json()
        for one, history in zip(found, histories, strict=True):
            assert_same(one, expected(routed, {"history": history, "k": 3}))
        assert found[1]["unknown"] == ["nothing"]
        assert (await client.post("/v1/recommend", {"histories": []})).json() == []

    talk(routed, what)


@pytest.mark.parametrize("address", ["memory", "sqlite"])
@pytest.mark.parametrize("name", ["routed", "plain"])
def test_events_one_by_one_equal_the_whole_history(
    name: str, address: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    engine = request.getfixturevalue(name)
    store = open_store("memory" if address == "memory" else f"sqlite:{tmp_path / 's.db'}")

    async def what(client: Client) -> None:
        rng = np.random.default_rng(0)
        history: list[str] = []
        kept = 0
        for turn in range(14):
            new = [KEYS[at] for at in rng.integers(0, ITEMS, 1 + turn % 2)]
            history += new
            kept += len(new) + (turn == 3)
            sent = [*new, "nothing"] if turn == 3 else new
            reply = await client.post("/v1/events", {"user": "u", "items": sent, "k": 5, "exclude_seen": True})
            accepted = reply.json()
            assert (accepted["events"], accepted["problem"]) == (kept, None)
            assert accepted["unknown"] == (["nothing"] if turn == 3 else [])
            accepted["answer"]["unknown"] = []
            wanted = expected(engine, {"history": history, "k": 5, "exclude_seen": True})
            wanted["scores"] = pytest.approx(wanted["scores"], abs=1e-4)
            assert [(one["item"], one["title"]) for one in accepted["answer"]["items"]] == wanted["items"]
            assert [one["score"] for one in accepted["answer"]["items"]] == wanted["scores"]
            whole = (await client.post("/v1/recommend", {"user": "u", "k": 5})).json()
            assert whole["unknown"] == (["nothing"] if turn >= 3 else [])
            assert_same(whole | {"unknown": []}, expected(engine, {"history": history, "k": 5}))
        assert client.service.live.sessions.steps > 3
        await client.http.delete("/v1/events", params={"user": "u"})
        problem(await client.post("/v1/recommend", {"user": "u"}), "unknown-user", 404, "expected a user with events")
        assert len(client.service.live.sessions) == 0
        reply = await client.post("/v1/events", {"user": "u", "items": ["i7"], "recommend": False})
        assert reply.json() == {"user": "u", "events": 1, "unknown": [], "answer": None, "problem": None}

    talk(engine, what, store)


def test_events_of_another_server_are_noticed(plain: Engine, tmp_path: Path) -> None:
    address = f"sqlite:{tmp_path / 's.db'}"
    other = open_store(address)

    async def what(client: Client) -> None:
        history: list[str] = []
        for turn, item in enumerate(KEYS[:8]):
            if turn % 3 == 2:
                await other.append("u", ["i30"], 30.0)
                history.append("i30")
            reply = await client.post("/v1/events", {"user": "u", "items": [item], "k": 5})
            history.append(item)
            wanted = expected(plain, {"history": history, "k": 5})
            assert [(one["item"], one["title"]) for one in reply.json()["answer"]["items"]] == wanted["items"]
        await other.close()

    talk(plain, what, open_store(address))


def test_many_events_of_one_user_at_once(plain: Engine) -> None:
    async def what(client: Client) -> None:
        bodies = [{"user": "u", "items": [item], "k": 5} for item in KEYS[:20]]
        replies = await asyncio.gather(*(client.post("/v1/events", one) for one in bodies))
        assert sorted(reply.json()["events"] for reply in replies) == list(range(1, 21))
        order = sorted(replies, key=lambda reply: reply.json()["events"])
        history = (await client.service.store.past("u", 30.0)).items
        for length, reply in enumerate(order, start=1):
            wanted = expected(plain, {"history": history[:length], "k": 5})
            assert [(one["item"], one["title"]) for one in reply.json()["answer"]["items"]] == wanted["items"]

    talk(plain, what)


def test_a_session_that_was_dropped_in_between_is_computed_anew(plain: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def what(client: Client) -> None:
        await client.post("/v1/events", {"user": "u", "items": ["i1", "i2"]})
        sessions = client.service.live.sessions
        sessions.forget("u")
        monkeypatch.setattr(sessions, "knows", lambda user, events: not monkeypatch.undo())  # true once
        accepted = (await client.post("/v1/events", {"user": "u", "items": ["i3"], "k": 5})).json()
        wanted = expected(plain, {"history": ["i1", "i2", "i3"], "k": 5})
        assert [(one["item"], one["title"]) for one in accepted["answer"]["items"]] == wanted["items"]

    talk(plain, what)


def test_load_lowers_the_budget_and_only_that(routed: Engine) -> None:
    least, usual, largest = routed.budgets or (0, 0, 0)
    floor = least + 0.1 * (largest - least)

    async def what(client: Client) -> None:
        adaptive = client.service.live.adaptive
        assert adaptive is not None
        for asked in (None, largest, least):
            for _ in range(40):
                adaptive.waited(9.0)
            found = (await client.post("/v1/recommend", {"history": ["i1"], "budget": asked})).json()
            wanted = usual if asked is None else asked
            assert found["budget"] == pytest.approx(min(wanted, floor)) or (asked is None and usual <= floor)
            assert_same(found, expected(routed, {"history": ["i1"], "budget": found["budget"]}))
        assert "leanrec_budget " in (await client.get("/metrics")).text

    talk(routed, what, adaptive_budget=floor)


def test_a_model_takes_over_while_it_is_asked(runs: dict[str, Path], tmp_path: Path) -> None:
    path = shutil.copytree(runs["plain"], tmp_path / "served")
    first, second = open_run(path).engine(), open_run(runs["other"]).engine()

    async def what(client: Client) -> None:
        asked = {"history": ["i1", "i2"], "k": 5}
        wanted = {"0123456789ab": expected(first, asked)}
        stop = asyncio.Event()
        seen: list[str] = []

        async def ask() -> None:
            while not stop.is_set():
                reply = await client.post("/v1/recommend", asked)
                assert reply.status_code == 200
                seen.append(reply.json()["model"])
                if reply.json()["model"] in wanted:
                    assert_same(reply.json(), wanted[reply.json()["model"]])

        asking = [asyncio.create_task(ask()) for _ in range(3)]
        await asyncio.sleep(0.05)
        reply = await client.post("/v1/reload", {"path": str(runs["other"])}, headers={"X-API-Key": "secret"})
        assert reply.status_code == 200
        digest = reply.json()["model"]
        wanted[digest] = expected(second, asked)
        await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*asking)
        assert seen[0] == "0123456789ab" and seen[-1] == digest
        assert seen == sorted(seen, key=lambda one: one == digest)
        shown = (await client.get("/metrics")).text
        assert f'leanrec_model_info{{model="{digest}"}} 1.0' in shown and 'reloads_total{result="done"} 1.0' in shown

    talk(first, what, admin_key="secret")


def test_a_question_is_answered_by_the_model_that_read_its_keys(routed: Engine, plain: Engine) -> None:
    one, other = live_of(routed), live_of(plain)
    asked = [(live, live.engine.ask([["i1", "i2"]], 3)[0]) for live in (one, other, one)]
    found = answered([Question(*question) for question in asked])
    for (live, _), answer in zip(asked, found, strict=True):
        assert not isinstance(answer, Exception)
        (wanted,) = live.engine.recommend([["i1", "i2"]], 3)
        assert [item.item for item in answer.items] == [item.item for item in wanted.items]
