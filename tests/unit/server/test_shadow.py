"""A model in the shadow of another: asked for the same after the answer, compared in the metrics, then promoted or dropped."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from leanrec.core.errors import ArtifactError
from leanrec.engine.engine import Engine
from leanrec.server.settings import Settings
from unit.server.conftest import Client, live_of, problem, talk

ADMIN = {"X-API-Key": "secret"}


async def reload(client: Client, **body: Any) -> Any:
    return await client.post("/v1/reload", body, headers=ADMIN)


async def figures(client: Client, until: Callable[[dict[str, float]], bool] = bool) -> dict[str, float]:
    """The shadow's metrics, once they are as wanted."""
    for _ in range(2000):
        text = (await client.get("/metrics")).text
        found = {name: float(value) for name, value in re.findall(r"^leanrec_shadow_(\S+) (\S+)$", text, re.MULTILINE)}
        if until(found):
            return found
        await asyncio.sleep(0.005)
    raise AssertionError(text)


def test_both_models_are_asked_and_compared(plain: Engine, runs: dict[str, Path], routed: Engine) -> None:
    async def what(client: Client) -> None:
        reply = await reload(client, path=str(runs["other"]), shadow=True, share=1.0)
        assert reply.status_code == 200
        first, shadow = reply.json()["model"], reply.json()["shadow"]
        assert first == "0123456789ab" and (shadow["path"], shadow["share"]) == ("other", 1.0)
        assert (await client.get("/v1/model")).json()["shadow"] == shadow

        found = (await client.post("/v1/recommend", {"histories": [["i1", "i2"], ["?"]], "k": 5})).json()
        assert found[0]["model"] == first
        told = await figures(client, lambda told: told['refused_total{model="shadow"}'] == 1)
        other = client.service.models.shadow
        assert other is not None
        ours, theirs = (
            {one.item for one in engine.recommend([["i1", "i2"]], 5)[0].items} for engine in (plain, other.live.engine)
        )
        assert told["overlap_count"] == 1 and told["overlap_sum"] == pytest.approx(len(ours & theirs) / 5)
        assert told['seconds_count{model="answering"}'] == told['seconds_count{model="shadow"}'] == 1
        assert told['refused_total{model="answering"}'] == 1 and told['requests_total{result="asked"}'] == 1

        problem(await client.post("/v1/recommend", {"history": ["?"]}), "unknown-item", 422, "got '?'")
        await figures(client, lambda told: told['refused_total{model="shadow"}'] == 2)
        for turn, items in enumerate((["i1"], ["i2", "i3"])):  # the second is one step
            await client.post("/v1/events", {"user": "u", "items": items, "k": 5})
            told = await figures(client, lambda told, turn=turn: told["overlap_count"] == turn + 2)
        assert told['requests_total{result="asked"}'] == 4

    talk(plain, what, admin_key="secret")


def test_a_shadow_is_promoted_and_sessions_stay(plain: Engine, runs: dict[str, Path]) -> None:
    async def what(client: Client) -> None:
        await client.post("/v1/events", {"user": "u", "items": ["i1", "i2"]})
        shadow = (await reload(client, path=str(runs["other"]), shadow=True)).json()["shadow"]
        assert shadow["share"] == 0.1
        live = client.service.models.shadow
        assert live is not None
        promoted = (await reload(client, shadow="promote")).json()
        assert promoted["model"] == shadow["model"] and promoted["shadow"] is None
        found = (await client.post("/v1/recommend", {"user": "u", "k": 5})).json()
        (wanted,) = live.live.engine.recommend([["i1", "i2"]], 5)
        assert [one["item"] for one in found["items"]] == [one.item for one in wanted.items]
        text = (await client.get("/metrics")).text
        assert f'model_info{{model="{shadow["model"]}"}} 1.0' in text and "leanrec_shadow" not in text

        assert (await reload(client, shadow=True)).json()["shadow"]["path"] == "other"  # read again
        assert (await reload(client, shadow="drop")).json()["shadow"] is None
        assert (await client.post("/v1/recommend", {"user": "u", "k": 5})).json() == found

    talk(plain, what, admin_key="secret")


def test_a_reload_keeps_the_shadow_and_begins_its_figures_anew(plain: Engine, runs: dict[str, Path]) -> None:
    async def what(client: Client) -> None:
        await reload(client, path=str(runs["other"]), shadow=True, share=1.0)
        await client.post("/v1/recommend", {"history": ["i1"]})
        await figures(client, lambda told: told["overlap_count"] == 1)
        reply = await reload(client, path=str(runs["routed"]))
        assert (reply.json()["path"], reply.json()["shadow"]["path"]) == ("routed", "other")
        assert (await figures(client))["overlap_count"] == 0

    talk(plain, what, admin_key="secret")


def test_what_cannot_be_done_is_said(plain: Engine) -> None:
    def open_none(path: Path, settings: Settings) -> Any:
        if path.name == "damaged":
            raise ArtifactError(f"expected a run or an export, got something else at {path}")
        return live_of(plain, settings)

    async def what(client: Client) -> None:
        for word in ("promote", "drop"):
            got = f'expected a shadow to {word}, got none beside 0123456789ab; begin one with {{"path": PATH, "shadow": true}}'
            problem(await reload(client, shadow=word), "reload-failed", 409, got)
            problem(
                await reload(client, shadow=word, path="x"), "bad-request", 422, f"\"{word}\", got 'x'; leave it out"
            )
        damaged = await reload(client, path="damaged", shadow=True)
        problem(damaged, "reload-failed", 409, "got something else at damaged; 0123456789ab is still served")
        assert (await client.get("/v1/model")).json()["shadow"] is None
        problem(await reload(client, share=0.5), "bad-request", 422, 'expected share beside "shadow": true only')
        problem(
            await reload(client, shadow=True, share=1.5), "bad-request", 422, "Expected `float` <= 1.0 - at `$.share`"
        )
        problem(await reload(client, shadow="begin"), "bad-request", 422, "Invalid enum value 'begin' - at `$.shadow`")
        assert (await reload(client, path="fine", shadow=True)).status_code == 200
        again = await reload(client, path="fine", shadow=True)
        problem(
            again, "reload-failed", 409, "expected no shadow yet, got 0123456789ab beside 0123456789ab; promote or drop"
        )

    talk(plain, what, opener=open_none, admin_key="secret")


def test_answers_do_not_wait_for_a_shadow_and_one_request_at_most_is_behind(plain: Engine) -> None:
    go, asked = threading.Event(), []

    def slow(path: Path, settings: Settings) -> Any:
        live = live_of(Engine(plain.runner, plain.catalog, plain.flops, plain.flops_full), settings)
        answers = live.engine.answers

        def waits(given: Any) -> Any:
            asked.append(threading.current_thread().name)
            assert go.wait(30)
            return answers(given)

        live.engine.answers = waits
        return live

    async def what(client: Client) -> None:
        await reload(client, path="slow", shadow=True, share=1.0)
        for _ in range(10):
            assert (await client.post("/v1/recommend", {"history": ["i1"], "k": 5})).status_code == 200
        told = await figures(client)
        assert told['requests_total{result="asked"}'] == 2 and told['requests_total{result="dropped"}'] == 8
        assert told["overlap_count"] == 0
        go.set()
        told = await figures(client, lambda told: told["overlap_count"] == 2)
        assert told["overlap_sum"] == 2 and set(asked) == {"leanrec-shadow_0"} and len(asked) == 2

    talk(plain, what, opener=slow, admin_key="secret")


def test_it_is_asked_for_its_share(plain: Engine) -> None:
    async def what(client: Client) -> None:
        await reload(client, path="same", shadow=True, share=0.25)
        with mock.patch("leanrec.server.shadow.random.random", side_effect=[0.1, 0.25, 0.9, 0.2]):
            for _ in range(4):
                await client.post("/v1/recommend", {"history": ["i1"]})
                await asyncio.sleep(0.05)
        told = await figures(client)
        assert sum(told.get(f'requests_total{{result="{one}"}}', 0) for one in ("asked", "dropped")) == 2

    talk(plain, what, opener=lambda path, settings: live_of(plain, settings), admin_key="secret")


def test_a_fault_of_a_shadow_is_in_the_log_and_harms_nobody(plain: Engine, caplog: pytest.LogCaptureFixture) -> None:
    def broken(path: Path, settings: Settings) -> Any:
        live = live_of(Engine(plain.runner, plain.catalog, plain.flops, plain.flops_full), settings)
        live.engine.answers = mock.Mock(side_effect=ZeroDivisionError)
        return live

    async def what(client: Client) -> None:
        await reload(client, path="broken", shadow=True, share=1.0)
        assert (await client.post("/v1/recommend", {"history": ["i1"]})).status_code == 200
        for _ in range(2000):
            if "a fault of leanrec in a request to" in caplog.text:
                return
            await asyncio.sleep(0.005)
        raise AssertionError(caplog.text)

    talk(plain, what, opener=broken, admin_key="secret")
