"""Events are learned: of known items, by all servers of a store, once, after a reload too, and what cannot learn is refused."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanrec.config import parse
from leanrec.core.errors import ConfigError
from leanrec.core.training_events import Counted
from leanrec.server.learner import Learner
from leanrec.server.learning import Learning
from leanrec.server.live import Live, open_live
from leanrec.server.service import Service
from leanrec.server.settings import Settings
from leanrec.server.stores import HistoryStore, MemoryStore, Note, Unavailable, open_store
from leanrec.tasks import run_training
from toys import chain_store
from unit.server.conftest import ITEMS, Client, problem

LEARNS = Settings(learn=True, deadline_ms=20_000)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has counted: of each item one follower most often."""
    folder = tmp_path_factory.mktemp("table")
    chain_store(folder / "data", users=60, items=ITEMS)
    technique = {"memory": {"rows": 8, "window": 3, "reach": 2, "backward": 0.0, "fit": False}}
    run_training(
        parse({"backbone": {"name": "popular"}, "technique": technique, "train": {"epochs": 0}}),
        folder / "data",
        folder / "run",
    )
    return folder / "run"


def note(*items: str, new: int = 1, at: float | None = None) -> Note:
    return Note(time.time() if at is None else at, list(items), new)


def best(live: Live, *history: str) -> str:
    return live.engine.recommend([list(history)], 1, exclude_seen=True)[0].items[0].item


def test_notes_of_known_items_are_added(table: Path) -> None:
    live = open_live(table, LEARNS)
    learning = live.learning
    assert learning is not None and learning.noting == (2, LEARNS.learn_events)
    learning.add([("7", note("i3", "unheard", "i9", "i3\x1f12", new=2))] * 50)
    assert best(live, "i9") == "i3" and best(live, "i3") == "i9" and learning.mark == "7"
    assert learning.events == 100 and (learning.growing.rows, learning.growing.answers) == (2, 2)
    assert live.engine.recommend([["i3"], ["i20"]], 1, exclude_seen=True)[0].items[0].item == "i9"
    assert (learning.growing.answers, learning.growing.lifted) == (4, 3)


def test_what_the_model_has_counted_is_not_learned_again(table: Path) -> None:
    live = open_live(table, LEARNS)
    learning = Learning(live.engine, table, LEARNS, Counted(1000))
    learning.add([("1", note("i3", "i9", at=1000.0)), ("2", note("i4", "i9", at=1001.0))])
    assert learning.events == 1 and learning.growing.rows == 1 and learning.mark == "2"


def test_pairs_count_backward_as_in_the_table(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_live(table, LEARNS).engine
    own = engine.runner.evidence()
    assert own is not None
    both = replace(own, growth=np.array([2, 0.5, 0.5], np.float32))
    monkeypatch.setattr(engine.runner, "evidence", lambda: both)
    learning = Learning(engine, table, LEARNS, None)
    learning.add([("1", note("i3", "i9"))])
    assert learning.growing.rows == 2 and learning.growing.entries == 2


@pytest.mark.parametrize("kept", ["memory", "sqlite"])
def test_a_server_learns_and_remembers(kept: str, table: Path, tmp_path: Path) -> None:
    address = kept if kept == "memory" else f"sqlite:{tmp_path / 'sessions.db'}"

    async def ask(client: Client) -> str:
        reply = await client.post("/v1/recommend", {"history": ["i39"], "k": 1, "exclude_seen": True})
        return reply.json()["items"][0]["item"]

    async def told(client: Client, name: str) -> float:
        found = re.search(rf"^leanrec_learned_{name} (\S+)$", (await client.get("/metrics")).text, re.MULTILINE)
        assert found is not None
        return float(found[1])

    async def whole() -> None:
        first, second = (Service(open_live(table, LEARNS), one, LEARNS) for one in _stores(address))
        clients = [Client(first), Client(second)]
        await first.open()
        await second.open()
        before = await ask(clients[0])
        assert before != "i30"
        for user in range(40):
            reply = await clients[0].post("/v1/events", {"user": f"u{user}", "items": ["i39"], "recommend": False})
            assert reply.status_code == 200
            await clients[0].post("/v1/events", {"user": f"u{user}", "items": ["i30"], "recommend": False})
        for service in (first, second):
            await service._learner.catch_up(service.live)
        assert await ask(clients[0]) == "i30" and await ask(clients[1]) == ("i30" if kept == "sqlite" else before)
        assert await told(clients[0], "rows") == 1 and await told(clients[0], "entries") == 1
        assert await told(clients[0], "events") == 80 and await told(clients[0], "bytes") > 1000
        assert await told(clients[0], "share") == pytest.approx(1 / 2)
        await first.reload()
        assert await ask(clients[0]) == "i30"
        for client, service in zip(clients, (first, second), strict=True):
            await client.http.aclose()
            await service.close()
        again = Service(open_live(table, LEARNS), _stores(address)[0], LEARNS)
        await again.open()
        assert await ask(Client(again)) == ("i30" if kept == "sqlite" else before)
        await again.close()

    asyncio.run(whole())


def _stores(address: str) -> list[HistoryStore]:
    return [open_store(address), open_store(address)]


def test_it_learns_by_itself_also_after_the_store_was_away(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanrec.server.learner._EVERY", 0.01)
    store, live, away = MemoryStore(), open_live(table, LEARNS), [2]
    own = store.notes

    async def notes(after: str, within: float) -> Any:
        if away[0]:
            away[0] -= 1
            raise Unavailable("gone") if away[0] else RuntimeError("a fault")
        return await own(after, within)

    monkeypatch.setattr(store, "notes", notes)

    async def whole() -> None:
        learner = Learner(store)
        await learner.open(lambda: [live])
        assert live.learning is not None
        await store.append("u", ["i1", "i2"], 1.0, live.learning.noting)
        for _ in range(1000):
            if live.learning.events:
                break
            await asyncio.sleep(0.01)
        assert live.learning.events == 2 and away == [0]
        await learner.close()

    asyncio.run(whole())


def test_a_server_that_does_not_learn_notes_nothing(table: Path) -> None:
    store, own = MemoryStore(), Settings(deadline_ms=20_000)

    async def whole() -> None:
        service = Service(open_live(table, own), store, own)
        await service.open()
        client = Client(service)
        await client.post("/v1/events", {"user": "u", "items": ["i1", "i2"], "recommend": False})
        assert await store.notes("", 1.0) == [] and "leanrec_learned" not in (await client.get("/metrics")).text
        await client.http.aclose()
        await service.close()

    asyncio.run(whole())


def test_a_model_that_cannot_learn_is_refused(runs: dict[str, Path], table: Path) -> None:
    expected = (
        f"expected a model with a table of what follows what for --learn, got none in {runs['plain']}; serve another one, or "
        "drop --learn"
    )
    with pytest.raises(ConfigError) as error:
        open_live(runs["plain"], LEARNS)
    assert str(error.value) == expected

    async def whole() -> None:
        own = Settings(learn=True, admin_key="key", deadline_ms=20_000)
        service = Service(open_live(table, own), MemoryStore(), own)
        await service.open()
        client = Client(service)
        reply = await client.post("/v1/reload", {"path": str(runs["plain"])}, headers={"X-API-Key": "key"})
        problem(reply, "reload-failed", 409, expected)
        await client.http.aclose()
        await service.close()

    asyncio.run(whole())
    with pytest.raises(ConfigError, match="expected --learn-days above 0, got 0"):
        Settings(learn_days=0)
