"""A run and an export on a log of another day: items are matched by key, what is not known is counted."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from e2e.command import leanrec
from e2e.conftest import KEYS, TINY
from leanrec.artifact.store import load_run
from leanrec.opening import open_answering

LATER = 1_700_000_000


def rows_of(log: Path) -> list[tuple[str, str, int]]:
    with log.open(encoding="utf-8", newline="") as file:
        return [(user, item, int(time)) for user, item, time in list(csv.reader(file))[1:]]


def write(path: Path, rows: list[tuple[str, str, int]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("user", "item", "time"), *rows])
    return path


@pytest.fixture(scope="module")
def tomorrow(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log a day later: popularity has turned round, 20 users want a new item, one has new ones only, one item is gone."""
    rows = [row for row in rows_of(log) if row[1] != "item-5"]
    rows += [(f"user {user}", "brand new" if user < 20 else KEYS[-1 - user % 9], LATER + user) for user in range(60)]
    rows += [("stranger", f"brand new {number}", LATER + number) for number in range(3)]
    return write(tmp_path_factory.mktemp("tomorrow") / "log.csv", rows)


@pytest.fixture(scope="module")
def other(tomorrow: Path) -> Path:
    assert leanrec("data", "import", tomorrow, "--out", tomorrow.parent / "data").code == 0
    return tomorrow.parent / "data"


def by_hand(tomorrow: Path, known: tuple[str, ...]) -> dict[str, list[str]]:
    """Every user's known keys, oldest first."""
    found: dict[str, list[str]] = {}
    for user, item, _ in sorted(rows_of(tomorrow), key=lambda row: row[2]):
        found.setdefault(user, [])
        if item in known:
            found[user].append(item)
    return found


@pytest.mark.parametrize("which", ["run", "exported"])
def test_recommendations_are_those_to_histories_mapped_by_hand(
    which: str, run: Path, exported: Path, other: Path, tomorrow: Path, tmp_path: Path
) -> None:
    model = {"run": run, "exported": exported}[which]
    ended = leanrec("recommend", model, "--data", other, "--out", tmp_path / "top.parquet", "-k", 5, "--json")
    found, frame = ended.json, pl.read_parquet(tmp_path / "top.parquet")
    histories = by_hand(tomorrow, open_answering(run).engine.catalog.keys)
    assert found["users"] == 120 and "stranger" not in frame["user"]
    rows = rows_of(tomorrow)
    assert found["unknown"] == {
        "items": 4 / (len({item for _, item, _ in rows})),
        "events": 23 / len(rows),
        "users": 1 / 121,
    }
    assert "note: items are matched by key; skipped" in ended.err
    engine = open_answering(model).engine
    for user in ("user 3", "user 30", "user 90"):
        (answer,) = engine.recommend([histories[user]], 5)
        assert frame.filter(pl.col("user") == user)["item"].to_list() == [item.item for item in answer.items]


def test_a_log_is_as_good_as_its_store(run: Path, other: Path, tomorrow: Path, tmp_path: Path) -> None:
    found = [
        leanrec("recommend", run, "--data", data, "--out", tmp_path / f"{row}.parquet", "--json").json["unknown"]
        for row, data in enumerate((other, tomorrow))
    ]
    assert found[0] == found[1]
    assert pl.read_parquet(tmp_path / "0.parquet").equals(pl.read_parquet(tmp_path / "1.parquet"))
    one = leanrec("recommend", run, "--data", tomorrow, "--user", "user 30", "--user", "stranger", "--json").json
    assert [len(answer["items"]) for answer in one["answers"]] == [10, 0]
    shown = leanrec("recommend", run, "--data", tomorrow, "--user", "stranger").out
    assert "user stranger, of whom no item is known" in shown


def test_targets_that_are_not_known_are_missed_and_shown_apart(
    run: Path, other: Path, tomorrow: Path, tmp_path: Path
) -> None:
    ended = leanrec("evaluate", run, "--data", other, "--per-user", tmp_path / "users.parquet", "--json")
    found, users = ended.json, pl.read_parquet(tmp_path / "users.parquet")
    assert found["users"] == users.height == 120
    assert found["unknown"]["targets"] == pytest.approx(20 / 120)
    strangers = users.filter(pl.col("target").is_null())
    assert sorted(strangers["user"]) == sorted(f"user {user}" for user in range(20))
    assert strangers["rank"].null_count() == 20
    last = {user: item for user, item, _ in sorted(rows_of(tomorrow), key=lambda row: row[2])}
    known = users.filter(pl.col("target").is_not_null())
    assert [last[user] for user in known["user"]] == known["target"].to_list()
    hits = (known["rank"] <= 10).sum()
    assert found["metrics"]["hr@10"] == pytest.approx(hits / 120)
    assert found["unknown"]["metrics_of_known"]["hr@10"] == pytest.approx(hits / 100)
    assert "16.67% of the targets are items that the run does not know" in leanrec(
        "evaluate", run, "--data", other
    ).out.replace("\n", " ")


def test_ranks_are_those_of_histories_mapped_by_hand(run: Path, other: Path, tomorrow: Path, tmp_path: Path) -> None:
    leanrec("evaluate", run, "--data", other, "--per-user", tmp_path / "users.parquet")
    keys = load_run(run)[2].keys
    histories, engine = by_hand(tomorrow, keys), open_answering(run).engine
    for user, target, rank in pl.read_parquet(tmp_path / "users.parquet")["user", "target", "rank"].iter_rows():
        if target is not None and user in ("user 25", "user 40", "user 100"):
            (answer,) = engine.recommend([histories[user][:-1]], len(keys))
            assert [item.item for item in answer.items].index(target) + 1 == rank


def test_an_export_is_judged_on_it(run: Path, exported: Path, other: Path) -> None:
    found = [
        leanrec("evaluate", run, "--data", other, *more, "--json").json
        for more in ((), ("--export", exported), ("--exclude-seen",), ("--exclude-seen", "--export", exported))
    ]
    assert found[0]["metrics"]["hr@10"] == pytest.approx(found[1]["metrics"]["hr@10"], abs=0.02)
    assert found[2]["seen_targets"] == found[3]["seen_targets"] > 0
    assert found[2]["metrics"]["hr@10"] == pytest.approx(found[3]["metrics"]["hr@10"], abs=0.02)


def test_since_a_date(run: Path, other: Path) -> None:
    found = leanrec("evaluate", run, "--data", other, "--since", "2023-11-14T22:13:20", "--json").json
    assert found["since"] == "2023-11-14T22:13:20"
    assert found["users"] == 60 and found["unknown"]["targets"] == pytest.approx(20 / 60)
    same = leanrec("evaluate", run, "--data", other, "--since", LATER, "--json").json
    assert same["metrics"] == found["metrics"]
    error = leanrec("evaluate", run, "--data", other, "--since", "tomorrow").error
    assert error == "expected a date such as 2026-11-28 or 2026-11-28T12:00, or a whole number, got 'tomorrow'"
    error = leanrec("evaluate", run, "--data", other, "--since", "2030-01-01").error
    assert error.startswith("expected events since 1893456000 of users with an earlier one, got none in ")
    error = leanrec("evaluate", run, "--data", other, "--since", LATER, "--controls").error
    assert error == "expected --since without --controls, --max-loss and --split valid, which ask for other events"


def test_controls_are_trained_on_the_own_items_only(run: Path, other: Path) -> None:
    error = leanrec("evaluate", run, "--data", other, "--controls").error
    assert error.startswith(
        f"expected --controls on a store with the items of {run}, since models are trained for it, got"
    )


def test_runs_of_two_days_are_measured_on_one(run: Path, exported: Path, other: Path) -> None:
    rows = leanrec("bench", run, exported, "--data", other, "--batch", "1", "--seconds", 0.1, "--json").json["rows"]
    assert [row["run"] for row in rows] == [str(run), str(exported)]


WITHOUT_TORCH = """
import sys
from pathlib import Path
from leanrec.opening import open_answering
model, data = map(Path, sys.argv[1:])
answering = open_answering(model)
store = answering.store(data)
ids, scores, routes = answering.engine.recommend_ids([store.history(user) for user in range(5)], 3)
assert "torch" not in sys.modules
print(store.unknown.events, *ids.ravel())
"""


def test_an_export_reads_another_store_without_torch(exported: Path, other: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, exported, other], capture_output=True, text=True, check=True
    )
    skipped, *ids = map(int, ran.stdout.split())
    answering = open_answering(exported)
    store = answering.store(other)
    expected: Any = answering.engine.recommend_ids([store.history(user) for user in range(5)], 3)[0]
    assert skipped == 23 and np.array_equal(np.array(ids).reshape(5, 3), expected)


def test_with_few_items_a_seen_target_is_never_hit(tmp_path: Path) -> None:
    rows = [(f"u{user}", f"i{(user * 3 + step * step) % 9}", 60 * step) for user in range(40) for step in range(8)]
    assert leanrec("data", "import", write(tmp_path / "log.csv", rows), "--out", tmp_path / "data").code == 0
    small = ("--backbone", "popular")
    assert leanrec("train", tmp_path / "data", *small, "--out", tmp_path / "run").code == 0
    last = {
        user: (item, item in [i for u, i, t in rows if u == user and t < 420]) for user, item, t in rows if t == 420
    }
    seen = sum(repeats for _, repeats in last.values())
    assert seen > 0
    found = leanrec("evaluate", tmp_path / "run", "--exclude-seen", "--json").json
    assert found["seen_targets"] == seen
    assert found["metrics"]["hr@10"] == pytest.approx(1 - seen / 40)
    shown = leanrec("evaluate", tmp_path / "run", "--exclude-seen").out
    assert f"{seen} targets were seen before and can never be hit, since seen items are left out" in shown


def test_a_split_by_time_says_how_many_targets_were_never_trained(tmp_path: Path) -> None:
    rows = [(f"u{user}", f"i{(user + step) % 12}", 1000 * step) for user in range(40) for step in range(8)]
    rows += [(f"u{user}", f"late {user % 5}", 9000 + user) for user in range(40)]
    assert leanrec("data", "import", write(tmp_path / "log.csv", rows), "--out", tmp_path / "data").code == 0
    by_time = ("data.split=time", "data.valid_from=0.6", "data.test_from=0.9", "train.epochs=1")
    ended = leanrec("train", tmp_path / "data", "--backbone", "sasrec", *TINY, *by_time, "--out", tmp_path / "run")
    assert "5 of 17 items have no training event; where they are recommended, it is by chance" in ended.err
    found = leanrec("evaluate", tmp_path / "run", "--json").json
    assert 30 < found["untrained_targets"] == found["users"]
    shown = leanrec("evaluate", tmp_path / "run").out.replace("\n", " ")
    assert f"{found['untrained_targets']} of {found['users']} targets are items without a training event" in shown
    assert "untrained_targets" not in leanrec("evaluate", tmp_path / "run", "--split", "valid", "--json").json
