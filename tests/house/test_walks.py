"""How many files one reads from a command down to the loss, and from a request down to the best items."""

from __future__ import annotations

import asyncio
import inspect
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import leanrec
from leanrec.cli.main import app
from leanrec.data.store import Store
from leanrec.items.tables import PlainTable
from leanrec.server.app import make_app
from leanrec.server.batcher import Batcher
from leanrec.server.live import Live, open_live
from leanrec.server.service import Service
from leanrec.server.settings import Settings
from leanrec.server.stores import MemoryStore

PACKAGE = Path(leanrec.__file__).parent
DRAWN = Path(__file__).parents[2] / "docs" / "explanation" / "architecture.md"


def files() -> list[str]:
    """Files of ours that are being run, the outermost first."""
    paths = (Path(frame.filename) for frame in traceback.extract_stack())
    return list(dict.fromkeys(str(path.relative_to(PACKAGE)) for path in paths if path.is_relative_to(PACKAGE)))


def seen_at(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[str]:
    """A list that holds, once a method has been called, the files that led to it."""
    found: list[str] = []
    method: Callable[..., Any] = getattr(owner, name)
    own = str(Path(inspect.getfile(method)).relative_to(PACKAGE))

    def spying(*args: Any, **more: Any) -> Any:
        found[:] = found or [*files(), own]
        return method(*args, **more)

    monkeypatch.setattr(owner, name, spying)
    return found


def drawn(walk: str) -> list[str]:
    """The files of a walk in the document, which numbers them under a heading."""
    section = DRAWN.read_text("utf-8").split(f"## {walk}\n")[1].split("\n## ")[0]
    return re.findall(r"^\d+\. `([\w/]+\.py)`", section, re.MULTILINE)


def train(store: Store, run: Path) -> None:
    small = ["backbone.width=8", "backbone.layers=1", "train.epochs=1"]
    app(["train", str(store.path), "--backbone", "sasrec", "--out", str(run), *small], standalone_mode=False)


async def ask(live: Live) -> int:
    service = Service(live, MemoryStore(), Settings(deadline_ms=20_000))
    await service.open()
    transport = httpx.ASGITransport(make_app(service))  # pyright: ignore[reportArgumentType]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        reply = await client.post("/v1/recommend", json={"history": [live.engine.catalog.keys[0]], "k": 3})
    await service.close()
    return reply.status_code


def test_the_walks_are_short_and_as_drawn(tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to_loss = seen_at(monkeypatch, PlainTable, "nll")
    train(tiny_store, tmp_path / "run")
    live = open_live(tmp_path / "run", Settings())
    queued, to_best = seen_at(monkeypatch, Batcher, "ask"), seen_at(monkeypatch, PlainTable, "top_k")
    assert asyncio.run(ask(live)) == 200
    whole = list(dict.fromkeys([*queued, *to_best]))
    assert (to_loss, whole) == (drawn("From a command to the loss"), drawn("From a request to the best items"))
    assert len(to_loss) <= 8 and len(whole) <= 10
