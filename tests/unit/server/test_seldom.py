"""What goes wrong all the time fills no log."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest

from leanrec.engine.engine import Engine
from leanrec.server.seldom import Seldom
from unit.server.conftest import Client, talk
from unit.server.test_refusals import Gone

log = logging.getLogger("leanrec.server")


def test_a_store_that_is_away_writes_a_line_with_a_count(plain: Engine, caplog: pytest.LogCaptureFixture) -> None:
    async def what(client: Client) -> None:
        for _ in range(50):
            assert (await client.post("/v1/recommend", {"user": "u"})).status_code == 503

    with caplog.at_level(logging.INFO, "leanrec.server"):
        talk(plain, what, Gone())
    lines = [line for line in caplog.messages if "sessions are unavailable" in line]
    assert lines[0] == "sessions are unavailable: no route to secret-host"
    assert len(lines) < 10
    assert len(lines) + sum(int(found[1]) - 1 for found in map(told, lines[1:]) if found) == 50


def told(line: str) -> re.Match[str] | None:
    return re.search(r"\((\d+) more of these since the last line\)", line)


def test_lines_of_a_kind_are_counted_and_others_are_written(caplog: pytest.LogCaptureFixture) -> None:
    async def what() -> None:
        seldom = Seldom(every=0.05)
        seldom.start()
        for number in range(100):
            log.error("again %d", number)
        log.error("another")
        log.warning("again %d", 7)
        while len(caplog.messages) < 4:
            await asyncio.sleep(0.01)
        log.error("again %d", 100)  # less than the time after the line before
        assert len(caplog.messages) == 4
        while len(caplog.messages) < 5:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        log.error("again %d", 101)  # long after
        log.error("again %d", 102)
        seldom.stop()
        log.error("again %d", 103)
        log.error("again %d", 103)

    with caplog.at_level(logging.INFO, "leanrec.server"):
        asyncio.run(what())
    more = "more of these since the last line"
    assert caplog.messages == [
        "again 0",
        "another",
        "again 7",
        f"again 99 (99 {more})",
        f"again 100 (1 {more})",
        "again 101",
        f"again 102 (1 {more})",
        "again 103",
        "again 103",
    ]


def test_one_traceback_is_enough(
    plain: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr(plain.runner, "by_route", broken)

    async def what(client: Client) -> None:
        for _ in range(20):
            assert (await client.post("/v1/recommend", {"history": ["i1"]})).status_code == 500

    with caplog.at_level(logging.ERROR, "leanrec.server"):
        talk(plain, what)
    assert caplog.text.count("Traceback") < 5
