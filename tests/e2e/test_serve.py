"""Serve by the real command: answers, signals, faults, and every way to start it wrongly."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import httpx
import pytest

from e2e.command import leanrec
from e2e.serving import PATIENCE, Serving, serving
from redis_server import RedisServer

HISTORY = ["two words", "item-3", "item-7"]


def same(found: dict[str, object], run: Path, *options: object) -> None:
    """That a served answer is what the command line answers."""
    wanted = leanrec("recommend", run, "--history", ",".join(HISTORY), "--json", *options).json
    items, others = found["items"], wanted["items"]
    assert [item["item"] for item in items] == [item["item"] for item in others]  # pyright: ignore[reportGeneralTypeIssues]
    for name in ("route", "flops_ratio", "unknown"):
        assert found[name] == wanted[name]


def test_a_run_is_served_reloaded_and_drained(run: Path, plain: Path, routed: Path, tmp_path: Path) -> None:
    """One server for all of it: starting one takes seconds."""
    served = tmp_path / "current"
    served.symlink_to(run)
    with serving(served, "--drain-s", "0.5", env={"LEANREC_API_KEY": "key", "LEANREC_ADMIN_KEY": "admin"}) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.http.get("/v1/model").status_code == 401
        server.http.headers["X-API-Key"] = "key"
        found = server.post("/v1/recommend", {"history": HISTORY, "k": 5, "exclude_seen": True}).json()
        same(found, run, "-k", 5, "--exclude-seen")
        assert found["model"] == server.told["model"] == server.http.get("/v1/model").json()["model"]
        assert server.http.get("/v1/items", params={"q": "two"}).json()["items"][0]["item"] == "two words"
        assert "server" not in server.http.get("/healthz").headers

        # SIGHUP reads the path anew; a damaged model does not take over
        broken = shutil.copytree(routed, tmp_path / "broken")
        (broken / "model.safetensors").write_bytes(b"damaged")
        for target in (broken, routed):
            (tmp_path / "next").symlink_to(target)
            (tmp_path / "next").replace(served)
            server.signal(signal.SIGHUP)
            if target == broken:
                server.until("/metrics", lambda reply: 'reloads_total{result="failed"} 1.0' in reply.text)
                assert server.post("/v1/recommend", {"history": HISTORY}).json()["model"] == found["model"]
        model = server.until("/v1/model", lambda reply: reply.json()["model"] != found["model"]).json()
        assert len(model["routes"]) == 4 and model["budgets"]["least"] < model["budgets"]["most"]
        shop_item = server.http.get("/v1/items", params={"limit": 1}).json()["items"][0]["item"]
        assert server.post("/v1/recommend", {"history": [shop_item]}).status_code == 200

        # SIGTERM: not ready, still answering, then gone with 0, nothing that was taken is lost
        answers: list[int] = []
        gone = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=server.url, headers={"X-API-Key": "key"}, timeout=60) as client:
                while not gone.is_set():
                    try:
                        answers.append(client.post("/v1/recommend", json={"history": [shop_item]}).status_code)
                    except httpx.TransportError:  # closed before it was taken
                        return

        asking = threading.Thread(target=ask)
        asking.start()
        server.signal(signal.SIGTERM)
        states = []
        for _ in range(1000):
            try:
                reply = httpx.get(f"{server.url}/readyz")
            except httpx.TransportError:
                break
            states.append(reply.status_code)
            assert reply.status_code == 200 or reply.headers["connection"] == "close"
        assert server.ended() == 0
        gone.set()
        asking.join()
        assert 503 in states and states == sorted(states)
        assert set(answers) == {200}
        assert server.process.stderr is not None
        told = server.process.stderr.read()
        assert "Traceback" not in told and "reload failed" in told and "draining" in told


def test_events_survive_the_end_of_the_process(run: Path, tmp_path: Path) -> None:
    address = f"sqlite:{tmp_path / 'sessions.db'}"
    with serving(run, "--sessions", address) as server:
        accepted = []
        for number in range(20):
            accepted.append(server.post("/v1/events", {"user": "u", "items": [f"item-{number}"]}).json()["events"])
            if number == 14:
                server.process.kill()
                break
        assert server.ended() == -signal.SIGKILL
    with serving(run, "--sessions", address) as server:
        found = server.post("/v1/events", {"user": "u", "items": ["item-30"], "k": 5}).json()
        assert found["events"] == accepted[-1] + 1
        whole = server.post("/v1/recommend", {"history": [f"item-{n}" for n in range(15)] + ["item-30"], "k": 5}).json()
        assert [i["item"] for i in found["answer"]["items"]] == [i["item"] for i in whole["items"]]
        server.signal(signal.SIGINT)
        assert server.ended() == 0


def test_redis_goes_and_comes_back_and_no_accepted_event_is_lost(exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("redis")
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        with serving(exported, "--sessions", redis.url) as server:
            accepted: list[str] = []

            def send(server: Serving, number: int) -> int:
                item = f"item-{number}"
                reply = server.post("/v1/events", {"user": "u", "items": [item], "k": 5})
                if reply.status_code == 200:
                    accepted.append(item)
                    whole = server.post("/v1/recommend", {"history": accepted, "k": 5}).json()
                    answer = reply.json()["answer"]
                    assert [i["item"] for i in answer["items"]] == [i["item"] for i in whole["items"]]
                return reply.status_code

            assert [send(server, number) for number in range(5)] == [200] * 5
            redis.kill()
            assert [send(server, number) for number in range(5, 8)] == [503] * 3
            assert server.post("/v1/recommend", {"history": HISTORY}).status_code == 200
            redis.start()
            assert [send(server, number) for number in range(8, 12)] == [200] * 4
            by_user = server.post("/v1/recommend", {"user": "u", "k": 5}).json()
            by_history = server.post("/v1/recommend", {"history": accepted, "k": 5}).json()
            assert by_user["items"] == by_history["items"]
    finally:
        redis.kill()


BARE = """
import sys, runpy
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "polars"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
runpy.run_module("leanrec.server", run_name="__main__", alter_sys=True)
"""


def test_an_export_is_served_without_torch_and_polars(run: Path, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(BARE)
    with serving(exported, module="bare", env={"PYTHONPATH": _path(tmp_path)}) as server:
        same(server.post("/v1/recommend", {"history": HISTORY, "k": 5}).json(), run, "-k", 5)
        for item in HISTORY:
            found = server.post("/v1/events", {"user": "u", "items": [item], "k": 5}).json()
        same(found["answer"], run, "-k", 5)
        assert "leanrec_session_steps 2.0" in server.http.get("/metrics").text


def _path(folder: Path) -> str:
    import leanrec

    return os.pathsep.join([str(folder), str(Path(leanrec.__file__).parents[1])])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see which signals are caught")
def test_sighup_while_it_starts_is_a_reload_and_not_the_end(run: Path) -> None:
    def signals(kind: str) -> bool:
        """Whether SIGHUP is among those that the process catches, or ignores."""
        return bool(int(status.read_text().partition(kind)[2].split()[0], 16) & 1 << (signal.SIGHUP - 1))

    command = [sys.executable, "-m", "leanrec", "serve", str(run), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            status, end = Path(f"/proc/{process.pid}/status"), time.monotonic() + PATIENCE
            while not signals("SigIgn:"):
                assert process.poll() is None and time.monotonic() < end and not signals("SigCgt:")
                time.sleep(0.005)
            while not signals("SigCgt:"):
                process.send_signal(signal.SIGHUP)
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.005)
            process.send_signal(signal.SIGHUP)
            line = process.stdout.readline()
            assert line, process.stderr.read()
            server = Serving(process, json.loads(line))
            server.until("/metrics", lambda reply: 'reloads_total{result="done"} 1.0' in reply.text)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
            server.http.close()
        finally:
            process.kill()


def test_a_password_is_read_from_the_environment_and_never_shown(exported: Path, tmp_path: Path) -> None:
    secret = "hunter2"
    with mock.patch.dict("os.environ", {"LEANREC_SESSIONS": f"redi://:{secret}@host/0"}):
        wrong, shown = leanrec("serve", exported), leanrec("serve", "--help")
    assert "expected --sessions memory, sqlite:FILE or redis" in wrong.error and "LEANREC_SESSIONS" in shown.out
    assert not any(secret in text for told in (wrong, shown) for text in (told.out, told.err))
    with serving(exported, env={"LEANREC_SESSIONS": f"sqlite:{tmp_path / 's.db'}"}) as server:
        assert server.post("/v1/events", {"user": "u", "items": ["item-1"]}).json()["events"] == 1
    assert (tmp_path / "s.db").exists()


def test_wrong_starts(run: Path, tmp_path: Path) -> None:
    assert "expected a run with manifest.json" in leanrec("serve", tmp_path).error
    broken = shutil.copytree(run, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    assert "model.safetensors" in leanrec("serve", broken).error
    assert "expected --sessions memory, sqlite:FILE or redis" in leanrec("serve", run, "--sessions", "disk").error
    assert "expected --batch above 0, got 0" in leanrec("serve", run, "--batch", "0").error
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = leanrec("serve", run, "--port", port).error
        assert f"cannot listen at 127.0.0.1:{port}:" in error and "choose others with --host and --port" in error
    assert "cannot listen at 192.0.2.1:" in leanrec("serve", run, "--host", "192.0.2.1", "--api-key", "x").error
    assert "expected a model with a choice of routes" in leanrec("serve", run, "--adaptive-budget", "0.3").error


@pytest.mark.parametrize(
    ("package", "extra", "options"),
    [("starlette", "serve", ()), ("uvicorn", "serve", ()), ("ray", "ray", ("--ray",))],
)
def test_a_missing_package_is_named(package: str, extra: str, options: tuple[str, ...], run: Path) -> None:
    with mock.patch.dict("sys.modules", {package: None}):
        error = leanrec("serve", run, *options).error
    assert f"expected the package {package}" in error and f"pip install 'leanrec[{extra}]'" in error


def test_replicas_need_sessions_that_they_share(run: Path) -> None:
    error = leanrec("serve", run, "--ray", "--replicas", "2").error
    assert "expected --sessions that 2 replicas share, got memory; use redis://HOST:PORT/DB" in error


def test_an_open_door_is_said(run: Path) -> None:
    with mock.patch("leanrec.server.running.serve_until_stopped"):
        told = leanrec("serve", run, "--host", "0.0.0.0", "--port", "0")
    assert told.code == 0 and "warning: everybody who reaches 0.0.0.0 may ask; set LEANREC_API_KEY" in told.err
