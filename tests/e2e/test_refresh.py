"""The nightly command: a run is trained on with a store that has grown, and judged beside what it came from."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from e2e.command import leanrec, refused, trained
from e2e.conftest import ROUTED, SMALL, TINY
from e2e.processes import program
from e2e.serving import serving
from leanrec.artifact.manifest import read_manifest
from leanrec.build import open_run
from leanrec.evaluate.rank import Ranking
from leanrec.tasks.evaluation import Evaluation
from leanrec.tasks.refreshing import PAGE, VERDICT
from leanrec.tasks.verdict import judged

KILLED = """
import os, signal
from leanrec.cli.main import run_cli
from leanrec.train.log import CsvLog

def in_a_step(self, progress):
    if (progress.epoch, progress.step) == (1, 1):
        os.kill(os.getpid(), signal.SIGKILL)

CsvLog.step = in_a_step
run_cli()
"""


@pytest.fixture(scope="module")
def grown(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store with a new item that 40 users took, and nine more events of all users."""
    where = tmp_path_factory.mktemp("grown")
    rows = [f"user {user},item-{(user + step) % 30},{1_700_000_000 + step}" for user in range(120) for step in range(9)]
    rows += [f"user {user},brand new,1700000005" for user in range(40)]
    (where / "today.csv").write_text("\n".join(["user,item,time", *rows]) + "\n", encoding="utf-8")
    shutil.copytree(store, where / "data")
    assert leanrec("data", "append", where / "data", where / "today.csv").code == 0
    return where / "data"


def test_a_run_is_brought_up_to_its_store(run: Path, grown: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    ended = leanrec("refresh", run, "--data", grown, "--out", tmp_path / "new", "--max-loss", 1, "--json")
    found = ended.json
    assert found["promoted"] and found["users"] == 120 and found["old"] == str(run)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert json.loads((tmp_path / "new" / VERDICT).read_text())["ndcg"] == found["ndcg"]
    for path, key in ((tmp_path / "new", "ndcg"), (run, "ndcg_old")):
        judged = leanrec("evaluate", path, "--data", grown, "--json").json
        assert judged["metrics"]["ndcg@10"] == pytest.approx(found[key])
    after = open_run(tmp_path / "new")
    assert "brand new" in after.catalog.keys
    assert after.config.train.since == found["since"] == open_run(run).manifest.trained.until + 1
    assert after.manifest.trained.until > found["since"]
    page = (tmp_path / "new" / PAGE).read_text(encoding="utf-8")
    assert "new takes the place of" in page and f"{found['ndcg']:.4f}" in page and "users with new events" in page


def test_routers_and_budgets_are_fitted_again(store: Path, grown: Path, tmp_path: Path) -> None:
    old, out = trained(store, tmp_path / "old", *SMALL, *ROUTED), tmp_path / "new"
    assert leanrec("refresh", old, "--data", grown, "--out", out, "--epochs", 0, "--max-loss", 1).code == 0
    before, after = (open_run(path).model.state_dict() for path in (old, out))
    fitted = [name for name in before if name.startswith("choice.") and not torch.equal(before[name], after[name])]
    assert any("router" in name for name in fitted) and any("dial" in name for name in fitted), fitted


def test_tables_count_what_is_new(store: Path, grown: Path, tmp_path: Path) -> None:
    old = trained(store, tmp_path / "old", "--backbone", "sasrec", "--technique", "memory", *TINY, "train.epochs=1")
    assert leanrec("refresh", old, "--data", grown, "--out", tmp_path / "new", "--max-loss", 1).code == 0
    before, after = open_run(old), open_run(tmp_path / "new")
    assert before.manifest.counted == before.manifest.trained
    assert after.manifest.counted == after.manifest.trained != before.manifest.trained
    assert "brand new" in after.catalog.keys and after.model.sparse is not None


def test_where_nothing_is_new_it_says_so(run: Path, store: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, "refresh", run, "--data", store, "--out", tmp_path / "new")
    assert error == (
        f"expected events that are new to {run}, got none in {store}; append them with `leanrec data append`, or say --since"
    )
    ended = leanrec(
        *("refresh", run, "--data", store, "--out", tmp_path / "new", "--max-loss", 1, "--since", 1_600_000_300),
        *("--replay", 0, "--epochs", 1, "--json"),
    )
    assert ended.json["since"] == 1_600_000_300
    assert ended.json["groups"]["users with new events"]["users"] < ended.json["users"]


def test_without_a_run_to_start_from_all_is_trained_on(store: Path, tmp_path: Path) -> None:
    command = (
        "train",
        store,
        "--backbone",
        "sasrec",
        *TINY,
        "train.epochs=1",
        "train.replay=0",
        "train.since=9999999999",
    )
    assert leanrec(*command, "--out", tmp_path / "whole").code == 0
    assert read_manifest(tmp_path / "whole").train.users_per_s > 0
    assert leanrec(*command, "--init", tmp_path / "whole", "--out", tmp_path / "none").code == 0
    assert read_manifest(tmp_path / "none").train.users_per_s == 0
    states = [open_run(tmp_path / name).model.state_dict() for name in ("whole", "none")]
    assert all(torch.equal(weight, states[1][name]) for name, weight in states[0].items())


def test_a_server_is_told(run: Path, grown: Path, tmp_path: Path) -> None:
    command = ("refresh", run, "--data", grown, "--out", tmp_path / "new", "--epochs", 1)
    error = refused(tmp_path, *command, "--reload", "localhost:8000")
    assert error == "expected the address of a server such as http://localhost:8000, got 'localhost:8000'"
    with serving(run, env={"LEANREC_ADMIN_KEY": "admin"}) as server:
        before = server.http.get("/v1/model").json()
        kept = leanrec(*command[:-1], 0, "--max-loss", 0, "--reload", server.url, "--admin-key", "admin")
        assert kept.code == 3 and server.http.get("/v1/model").json() == before
        command = (*command, "--max-loss", 1, "--resume")
        error = leanrec(*command, "--reload", server.url, "--admin-key", "other").error
        assert error == (
            f"expected {server.url} to go over to {tmp_path / 'new'}, got 401, expected the server's key in X-API-Key or as a "
            "bearer token, got another; the run is promoted, ask again with refresh --resume"
        )
        assert leanrec(*command, "--reload", server.url, "--admin-key", "admin").code == 0
        assert server.http.get("/v1/model").json() != before
    error = leanrec(*command, "--reload", server.url).error
    assert f"expected {server.url} to go over to {tmp_path / 'new'}, got no answer: " in error


def test_one_that_is_worse_is_not_promoted(run: Path, grown: Path, tmp_path: Path) -> None:
    ended = leanrec("refresh", run, "--data", grown, "--out", tmp_path / "new", "--epochs", 0, "--max-loss", 0)
    assert ended.code == 3
    assert "not promoted: NDCG@10 " in ended.err and "ask for more --epochs, or train anew" in ended.err
    assert "no │" in ended.out


def test_a_killed_one_goes_on(run: Path, grown: Path, tmp_path: Path) -> None:
    def command(name: str) -> tuple[object, ...]:
        return ("refresh", run, "--data", grown, "--out", tmp_path / name, "--max-loss", 1)

    assert leanrec(*command("whole")).code == 0
    assert program(KILLED, *command("new")).returncode == -signal.SIGKILL
    assert not (tmp_path / "new" / VERDICT).exists()
    assert leanrec(*command("new")).error.endswith("go on with --resume, or choose another --out")
    for _ in range(2):  # a finished one, too
        assert leanrec(*command("new"), "--resume").code == 0
        for name in ("model.safetensors", VERDICT):
            assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def evaluation(users: list[int], ranks: list[int], targets: list[int]) -> Evaluation:
    one = np.ones(len(users))
    return Evaluation(np.array(users), np.array(targets), Ranking(np.array(ranks), []), one, 1.0, 1.0, 1.0)


def test_whom_the_old_model_does_not_know_it_misses() -> None:
    new = evaluation([0, 1, 3], [1, 1, 1], [4, 4, 4])
    old = evaluation([1, 3], [1, 9], [2, 0])
    verdict = judged("old", new, old, 0.01, np.array([True, True, False, False, False]))
    assert verdict.users == 3 and verdict.ndcg == 1.0
    assert verdict.new_items == pytest.approx(2 / 3)
    assert verdict.ndcg_old == pytest.approx((1 + 1 / np.log2(10)) / 3)
    assert {name: part.users for name, part in verdict.groups.items()} == {"users with new events": 2, "the others": 1}
    assert verdict.groups["users with new events"].ndcg_old == 0.5
    assert verdict.promoted is bool(verdict.loss.p <= 0.05)
