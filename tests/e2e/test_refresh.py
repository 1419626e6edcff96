"""The nightly command: a run is trained on with a store that has grown, and judged beside what it came from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from e2e.command import leanrec
from leanrec.build import open_run
from leanrec.evaluate.rank import Ranking
from leanrec.tasks.evaluation import Evaluation
from leanrec.tasks.refreshing import VERDICT, judged


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
    assert "brand new" in open_run(tmp_path / "new").catalog.keys


def test_one_that_is_worse_is_not_promoted(run: Path, grown: Path, tmp_path: Path) -> None:
    ended = leanrec("refresh", run, "--data", grown, "--out", tmp_path / "new", "--epochs", 0, "--max-loss", 0)
    assert ended.code == 3
    assert "not promoted: NDCG@10 " in ended.err and "ask for more --epochs, or train anew" in ended.err
    assert "no │" in ended.out


def test_a_killed_one_goes_on(run: Path, grown: Path, tmp_path: Path) -> None:
    whole = leanrec("refresh", run, "--data", grown, "--out", tmp_path / "new", "--max-loss", 1, "--json").json
    (tmp_path / "new" / VERDICT).unlink()
    again = leanrec(
        "refresh", run, "--data", grown, "--out", tmp_path / "new", "--max-loss", 1, "--resume", "--json"
    ).json
    assert again["ndcg"] == whole["ndcg"]
    error = leanrec("refresh", run, "--data", grown, "--out", tmp_path / "new").error
    assert error.endswith("go on with --resume, or choose another --out")


def evaluation(users: list[int], ranks: list[int], targets: list[int]) -> Evaluation:
    one = np.ones(len(users))
    return Evaluation(np.array(users), np.array(targets), Ranking(np.array(ranks), []), one, 1.0, 1.0, 1.0)


def test_whom_the_old_model_does_not_know_it_misses() -> None:
    new = evaluation([0, 1, 3], [1, 1, 1], [4, 4, 4])
    old = evaluation([1, 3], [1, 9], [2, 0])
    verdict = judged("old", new, old, 0.01, 5)
    assert verdict.users == 3 and verdict.ndcg == 1.0
    assert verdict.new_items == pytest.approx(2 / 3)
    assert verdict.ndcg_old == pytest.approx((1 + 1 / np.log2(10)) / 3)
    assert verdict.promoted is bool(verdict.loss.p <= 0.05)
