"""Many who ask for a reload at once, and SIGHUP at every moment."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from leanrec.core.errors import ArtifactError
from leanrec.engine.engine import Engine
from leanrec.server.hangup import Hangup
from unit.server.conftest import Client, problem, talk

ADMIN = {"X-API-Key": "secret"}


def test_one_reload_runs_and_one_waits(plain: Engine) -> None:
    go, opened, threads = threading.Event(), [], set()

    def slow(path: Path, settings: Any) -> Any:
        opened.append(path)
        threads.add(threading.current_thread())
        assert go.wait(30)
        raise ArtifactError(f"{path} is none")

    async def what(client: Client) -> None:
        asking = [asyncio.create_task(client.post("/v1/reload", {"path": f"p{n}"}, headers=ADMIN)) for n in range(100)]
        while not opened or sum(one.done() for one in asking) < 98:
            await asyncio.sleep(0.01)
        assert (await client.post("/v1/recommend", {"history": ["i1"]})).status_code == 200
        go.set()
        replies = await asyncio.gather(*asking)
        for reply in replies[:2]:
            problem(reply, "reload-failed", 409, "is none; 0123456789ab is still served")
        for reply in replies[2:]:
            problem(reply, "reload-failed", 409, "expected at most one reload to wait, got another")
            assert reply.headers["retry-after"] == "1"
        assert opened == [Path("p0"), Path("p1")]
        again = await client.post("/v1/reload", {"path": "later"}, headers=ADMIN)
        problem(again, "reload-failed", 409, "later is none")

    talk(plain, what, opener=slow, admin_key="secret")
    assert threading.main_thread() not in threads


def test_nothing_of_a_reload_is_left_to_the_loop(
    plain: Engine, runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def what(client: Client) -> None:
        loop = asyncio.get_running_loop()
        later: list[Any] = []
        monkeypatch.setattr(loop, "call_later", lambda *given: later.append(given) or loop.call_at(0, lambda: None))
        await client.service.reload(runs["other"])
        monkeypatch.undo()
        assert [given for given in later if "leanrec" in str(given)] == []

    talk(plain, what)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP")
def test_a_hangup_before_anybody_listens_is_kept() -> None:
    before = signal.getsignal(signal.SIGHUP)
    called: list[int] = []
    with Hangup() as hangup:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
        hangup.call(lambda: called.append(1))
        assert called == [1]
        os.kill(os.getpid(), signal.SIGHUP)
        assert called == [1, 1]
    with Hangup() as hangup:
        hangup.call(lambda: called.append(1))
    assert called == [1, 1]
    assert signal.getsignal(signal.SIGHUP) == before


def test_a_hangup_beside_the_main_thread_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGHUP)
    thread = threading.Thread(target=lambda: Hangup().__enter__().__exit__(None, None, None))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGHUP) == before
