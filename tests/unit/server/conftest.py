"""Models to serve: one with a choice of routes and a budget that load lowers, one without; and a client that needs no socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from leanrec.build import open_run
from leanrec.config import parse
from leanrec.engine.engine import Engine
from leanrec.engine.sessions import Sessions
from leanrec.server.adaptive import adaptive_budget
from leanrec.server.app import make_app
from leanrec.server.live import Live, open_live
from leanrec.server.search import TitleSearch
from leanrec.server.service import Service
from leanrec.server.settings import Settings
from leanrec.server.stores import HistoryStore, MemoryStore
from leanrec.tasks import run_training
from redis_server import RedisServer
from toys import chain_store

ITEMS = 40


def live_of(engine: Engine, settings: Settings | None = None) -> Live:
    own = settings or Settings()
    adaptive = adaptive_budget(engine, "model", own.adaptive_budget, own.adaptive_wait_ms)
    return Live(Path("model"), "0123456789ab", engine, Sessions(engine), TitleSearch(engine.catalog), adaptive)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with a choice of routes, and two plain ones that differ."""
    folder = tmp_path_factory.mktemp("served")
    chain_store(folder / "data", users=60, items=ITEMS)
    shape = {"name": "sasrec", "width": 16, "layers": 2, "heads": 2, "max_length": 10}
    train = {"epochs": 2, "learning_rate": 1e-2, "loss_precision": "float32", "encoder_precision": "float32"}
    grid = {"canet": {"widths": [8, 16], "depths": [1, 2], "embs": [8, 16]}}
    for name, more in (
        ("routed", {"technique": grid}),
        ("plain", {"backbone": {"name": "gru4rec", "width": 16, "max_length": 10}}),
        ("other", {"train": {**train, "seed": 1}}),
    ):
        run_training(parse({"backbone": shape, "train": train, **more}), folder / "data", folder / name)
    return {name: folder / name for name in ("routed", "plain", "other")}


@pytest.fixture(scope="session")
def routed(runs: dict[str, Path]) -> Engine:
    return open_run(runs["routed"]).engine()


@pytest.fixture(scope="session")
def plain(runs: dict[str, Path]) -> Engine:
    return open_run(runs["plain"]).engine()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return request.getfixturevalue("redis").url
    return "memory" if request.param == "memory" else f"sqlite:{tmp_path / 'sessions.db'}"


class Client:
    """Speaks to an application without a socket."""

    def __init__(self, service: Service) -> None:
        self.service, self.app = service, make_app(service)
        transport = httpx.ASGITransport(self.app)  # pyright: ignore[reportArgumentType]
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return await self.http.post(path, json=body, **more)

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.http.get(path, **more)


def talk(
    engine: Engine,
    what: Callable[[Client], Awaitable[None]],
    store: HistoryStore | None = None,
    opener: Callable[[Path, Settings], Live] = open_live,
    **settings: Any,
) -> None:
    """Serve an engine on a loop of its own while a test speaks to it."""

    async def whole() -> None:
        own = Settings(**{"deadline_ms": 20_000, **settings})  # no busy machine is too slow
        service = Service(live_of(engine, own), MemoryStore() if store is None else store, own, opener)
        await service.open()
        client = Client(service)
        try:
            await what(client)
        finally:
            await client.http.aclose()
            await service.close()

    asyncio.run(whole())


def problem(reply: httpx.Response, kind: str, status: int, detail: str) -> None:
    """That a reply is a refusal of a type."""
    body = reply.json()
    assert reply.headers["content-type"] == "application/problem+json"
    assert (reply.status_code, body["status"], body["type"]) == (status, status, f"urn:leanrec:{kind}"), body
    assert detail in body["detail"], body["detail"]
    assert set(body) == {"type", "title", "status", "detail"} and "Traceback" not in reply.text
