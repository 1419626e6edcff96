"""What is opened is tried first; what fails is not served."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanrec.core.errors import ArtifactError
from leanrec.engine.engine import Engine
from leanrec.server.live import open_live, settle
from leanrec.server.selfcheck import self_check
from leanrec.server.settings import Settings
from unit.server.conftest import Client, problem, talk


def test_whole_models_pass(routed: Engine, plain: Engine, runs: dict[str, Path]) -> None:
    self_check(routed, "model")
    self_check(plain, "model")
    live = open_live(runs["routed"], Settings(session_mb=1))
    assert len(live.digest) == 12 and live.sessions.most_bytes == 2**20
    shares = {share.route: share.flops_ratio for share in live.routes()}
    assert max(shares, key=shares.__getitem__) == "full" and shares["full"] >= 1  # choosing a route is counted


class Knot:
    """Held by itself."""

    def __init__(self) -> None:
        self.own = self


def test_what_stays_is_spared() -> None:
    try:
        knot = Knot()
        gone = weakref.ref(knot)
        settle()
        del knot
        gc.collect()
        assert gone() is not None
    finally:
        gc.unfreeze()


Best = Callable[..., tuple[np.ndarray, np.ndarray]]


def nan(best: Best) -> Best:
    return lambda *given: (best(*given)[0], best(*given)[1] * np.nan)


def ascending(best: Best) -> Best:
    return lambda *given: (best(*given)[0][:, ::-1], best(*given)[1][:, ::-1])


def crowded(best: Best) -> Best:
    return lambda states, *rest: (best(states, *rest)[0], best(states, *rest)[1] + len(states))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (nan, "expected finite scores, got others; weights are .*"),
        (ascending, "expected items by descending score on the route .*, got another order"),
        (crowded, "expected the same answer for a user alone and among others, got two"),
    ],
)
def test_a_model_that_answers_nonsense(
    plain: Engine, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Best], Best], message: str
) -> None:
    monkeypatch.setattr(plain.runner, "best", wrong(plain.runner.best))
    with pytest.raises(ArtifactError, match=f"model fails its self-check: {message}; train or export it again"):
        self_check(plain, "model")


def test_every_route_is_tried(routed: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    rare = next(route for route in routed.flops if str(route) != "full")
    states = routed.runner.states
    monkeypatch.setattr(routed.runner, "routes", lambda histories, budget: [list(routed.flops)[-1]] * len(histories))
    monkeypatch.setattr(
        routed.runner, "states", lambda histories, route: states(histories, route) * (np.nan if route == rare else 1)
    )
    with pytest.raises(ArtifactError, match=f"expected finite scores on the route {rare}, got others"):
        self_check(routed, "model")


@pytest.mark.parametrize("what", ["gone", "cut", "edited", "nonsense"])
def test_a_reload_that_fails_changes_nothing(
    what: str, plain: Engine, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copytree(runs["other"], tmp_path / "next")
    if what == "gone":
        shutil.rmtree(path)
    elif what == "cut":
        weights = path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-9])
    elif what == "edited":
        (path / "manifest.json").write_text((path / "manifest.json").read_text().replace("0", "1", 1))
    else:
        monkeypatch.setattr("leanrec.server.live.self_check", _refuse)

    async def ask(client: Client) -> None:
        before = (await client.post("/v1/recommend", {"history": ["i1"]})).json()
        reply = await client.post("/v1/reload", {"path": str(path)}, headers={"X-API-Key": "secret"})
        problem(reply, "reload-failed", 409, "0123456789ab is still served")
        assert str(path) in reply.json()["detail"]
        assert (await client.post("/v1/recommend", {"history": ["i1"]})).json() == before
        assert 'leanrec_reloads_total{result="failed"} 1.0' in (await client.get("/metrics")).text

    talk(plain, ask, admin_key="secret")


def _refuse(engine: Any, path: Path) -> None:
    raise ArtifactError(f"{path} fails its self-check")


def test_a_reload_without_the_routes_that_the_server_was_told_to_use(routed: Engine, runs: dict[str, Path]) -> None:
    least, _, largest = routed.budgets or (0, 0, 0)

    async def ask(client: Client) -> None:
        reply = await client.post("/v1/reload", {"path": str(runs["plain"])}, headers={"X-API-Key": "secret"})
        problem(reply, "reload-failed", 409, "expected a model with a choice of routes for --adaptive-budget")

    talk(routed, ask, admin_key="secret", adaptive_budget=(least + largest) / 2)
