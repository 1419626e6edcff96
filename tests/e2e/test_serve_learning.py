"""A real server that learns from events: shown at once, to other processes of the store, and after a restart."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from e2e.command import leanrec, refused, trained
from e2e.conftest import TINY
from e2e.serving import PATIENCE, Serving, serving

LEARN = ("--learn", "--deadline-ms", 20_000)


@pytest.fixture(scope="module")
def exported(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learning")
    run = trained(
        shop, folder / "run", "--recipe", "followers", "technique.memory.rows=16", "technique.memory.own=1e-9"
    )
    assert leanrec("export", run, "--out", folder / "export").code == 0
    return folder / "export"


@pytest.fixture(scope="module")
def pair(exported: Path) -> tuple[str, str]:
    """An item, and the one that is least likely to be recommended after it."""
    keys = leanrec("recommend", exported, "--history", _first(exported), "-k", 40, "--json").json["items"]
    return _first(exported), keys[-1]["item"]


def _first(exported: Path) -> str:
    from leanrec.artifact.exported import read_export

    return read_export(exported)[1].keys[-1]


def best(server: Serving, item: str) -> str:
    reply = server.post("/v1/recommend", {"history": [item], "k": 1, "exclude_seen": True})
    return reply.json()["items"][0]["item"]


def bought(server: Serving, first: str, then: str, users: range) -> None:
    for user in users:
        for item in (first, then):
            body = {"user": f"user {user}", "items": [item], "recommend": False}
            assert server.post("/v1/events", body).status_code == 200


def until(server: Serving, item: str, wanted: str) -> None:
    end = time.monotonic() + PATIENCE
    while best(server, item) != wanted:
        assert time.monotonic() < end
        time.sleep(0.05)


def metric(server: Serving, name: str) -> float:
    found = re.search(rf"^leanrec_learned_{name} (\S+)$", server.http.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_what_is_bought_together_is_recommended_in_all_processes(
    exported: Path, pair: tuple[str, str], tmp_path: Path
) -> None:
    first, then = pair
    store = ("--sessions", f"sqlite:{tmp_path / 'sessions.db'}")
    with serving(exported, *store, *LEARN) as server, serving(exported, *store, *LEARN) as other:
        assert best(server, first) != then
        bought(server, first, then, range(60))
        until(server, first, then)
        until(other, first, then)
        assert metric(server, "rows") == 1 and metric(other, "events") == 120 and metric(server, "entries") == 1
        assert 0 < metric(server, "share") <= 1 and metric(server, "bytes") > 0
        assert server.post("/v1/recommend", {"user": "user 3", "k": 3}).json()["items"]
    with serving(exported, *store, *LEARN) as again:
        assert best(again, first) == then
    with serving(exported, *store) as plain:
        assert best(plain, first) != then and "leanrec_learned" not in plain.http.get("/metrics").text


def test_a_model_without_a_table_is_refused_at_the_start(shop: Path, tmp_path: Path) -> None:
    plain = trained(shop, tmp_path / "plain", "--backbone", "gru4rec", *TINY[:2], "train.epochs=1")
    assert refused(tmp_path, "serve", plain, "--learn") == (
        f"expected a model with a table of what follows what for --learn, got none in {plain}; serve another one, or drop --learn"
    )
