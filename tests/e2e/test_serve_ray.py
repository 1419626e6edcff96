"""Two replicas on a local Ray answer as the command line does, and share their sessions."""

from __future__ import annotations

import importlib.util
import signal
from pathlib import Path

import pytest

from e2e.serving import serving
from e2e.test_serve import HISTORY, same

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="ray is not installed; pip install 'ray[serve]'"
    ),
]


def test_two_replicas_answer(run: Path, tmp_path: Path) -> None:
    options = ("--ray", "--replicas", "2", "--sessions", f"sqlite:{tmp_path / 'sessions.db'}")
    with serving(run, *options) as server:
        assert server.told["replicas"] == 2
        for _ in range(20):
            same(server.post("/v1/recommend", {"history": HISTORY, "k": 5}).json(), run, "-k", 5)
        for number, item in enumerate(HISTORY * 4, start=1):  # whichever replica takes them
            found = server.post("/v1/events", {"user": "u", "items": [item], "k": 5}).json()
            assert found["events"] == number
            whole = server.post("/v1/recommend", {"history": (HISTORY * 4)[:number], "k": 5}).json()
            assert [i["item"] for i in found["answer"]["items"]] == [i["item"] for i in whole["items"]]
        counts = set()
        for _ in range(40):
            lines = server.http.get("/metrics").text.splitlines()
            counts |= {line for line in lines if line.startswith('leanrec_requests_total{path="/v1/recommend"')}
        assert len(counts) == 2  # both have answered
        refused = server.post("/v1/recommend", {"history": ["?"]})
        assert refused.status_code == 422 and refused.json()["type"] == "urn:leanrec:unknown-item"
        server.signal(signal.SIGTERM)
        assert server.ended() == 0
