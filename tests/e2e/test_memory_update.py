"""``leanrec memory update``: a log or a store, a run or an export, and what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from e2e.command import leanrec, refused, trained
from e2e.conftest import write_log

START = 1_600_000_000
BESIDE = ("--recipe", "followers", "technique.memory.rows=40")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A log, and the same log with more events of the same users, one of them of a new item."""
    folder = tmp_path_factory.mktemp("logs")
    old, new = write_log(folder / "old.csv"), folder / "new.csv"
    with new.open("w", newline="", encoding="utf-8") as file:
        file.write(old.read_text("utf-8"))
        writer = csv.writer(file)
        for user in range(30):
            writer.writerow([f"user {user}", "item-7", START + 5000])
            writer.writerow([f"user {user}", "item-20" if user else "never seen", START + 5060])
    return old, new


@pytest.fixture(scope="module")
def run(logs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert leanrec("data", "import", logs[0], "--out", folder / "data").code == 0
    return trained(folder / "data", folder / "run", *BESIDE)


def best(path: Path) -> str:
    return leanrec("recommend", path, "--history", "item-7", "-k", 1, "--json").json["items"][0]["item"]


def test_a_run_and_its_export_learn_what_follows(logs: tuple[Path, Path], run: Path, tmp_path: Path) -> None:
    assert leanrec("export", run, "--out", tmp_path / "export").code == 0
    assert best(run) == best(tmp_path / "export") == "item-8"
    told = leanrec("memory", "update", tmp_path / "export", "--data", logs[1], "--json").json
    assert best(tmp_path / "export") == "item-20"
    assert refused(tmp_path, "evaluate", run, "--export", tmp_path / "export") == (
        f"expected an export that has counted what {run} has, got one with newer events in {tmp_path / 'export'}; update the run, "
        "too, and export it again"
    )
    assert told["run"] == str(tmp_path / "export") and told["events"] == 59 + 240 and told["skipped"] == 1
    assert told["until"] == START + 5060 and told["before"] < START + 5000
    shown = leanrec("memory", "update", run, "--data", logs[1], "--half-life", 30, "--out", tmp_path / "new")
    assert best(run) == "item-8" and best(tmp_path / "new") == "item-20"
    assert "2020-09-13 13:51:00" in shown.out and "evaluate on newer ones" in shown.err
    assert leanrec("data", "import", logs[1], "--out", tmp_path / "data").code == 0
    asked = ("evaluate", tmp_path / "new", "--data", tmp_path / "data")
    assert refused(tmp_path, *asked) == (
        f"expected events that {tmp_path / 'new'} has not counted, got 120 of 120 that it has, until 2020-09-13 13:51:00; ask for "
        "newer ones with --since, or evaluate the run as it was trained"
    )
    again = leanrec("memory", "update", tmp_path / "new", "--data", logs[0])
    assert again.code == 0 and "nothing new, nothing has changed" in again.err


def test_what_update_refuses(logs: tuple[Path, Path], run: Path, tmp_path: Path) -> None:
    new = logs[1]
    assert leanrec("data", "import", new, "--out", tmp_path / "data").code == 0
    plain = trained(tmp_path / "data", tmp_path / "plain", "--recipe", "popular")
    table = "add one with 'leanrec train DATA --init RUN --technique memory train.epochs=0'"
    assert refused(tmp_path, "memory", "update", plain, "--data", new) == (
        f"expected a run or an export with a table of followers, got none in {plain}; {table}"
    )
    assert refused(tmp_path, "memory", "update", tmp_path / "no", "--data", new) == (
        f"expected the directory of a run, got nothing at {tmp_path / 'no'}; make one with 'leanrec train'"
    )
    assert refused(tmp_path, "memory", "update", run, "--data", new, "--since", "soon") == (
        "expected a date such as 2026-11-28 or 2026-11-28T12:00, or a whole number, got 'soon'"
    )
    assert refused(tmp_path, "memory", "update", run, "--data", new, "--half-life", 0) == (
        "expected --half-life above 0 days, got 0"
    )
    assert refused(tmp_path, "memory", "update", run, "--data", new, "--out", plain) == (
        f"expected a new or empty directory to write, got {plain}; choose another --out"
    )
