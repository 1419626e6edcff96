"""A store that grows by the command line, and one that is killed while it grows."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.command import leanrec, refused
from leanrec.data.store import Store

TUESDAY = 1_700_000_000


def write(path: Path, rows: list[tuple[str, str, int]]) -> Path:
    lines = [f"{user},{item},{time}" for user, item, time in rows]
    path.write_text("\n".join(["user,item,time", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Monday's store, and Tuesday's log: a new user, two new items, events of old users."""
    where, draw = tmp_path_factory.mktemp("days"), random.Random(0)
    monday = [(f"u{draw.randrange(50)}", f"i{draw.randrange(30)}", 1_600_000_000 + step) for step in range(2000)]
    tuesday = [(f"u{user}", "i3", TUESDAY + user) for user in range(10)]
    tuesday += [("newcomer", f"new {item}", TUESDAY) for item in range(2)]
    assert leanrec("data", "import", write(where / "monday.csv", monday), "--out", where / "data").code == 0
    write(where / "both.csv", monday + tuesday)
    return where / "data", write(where / "tuesday.csv", tuesday)


def test_what_it_gained(days: tuple[Path, Path], tmp_path: Path) -> None:
    data = shutil.copytree(days[0], tmp_path / "data")
    ended = leanrec("data", "append", data, days[1], "--json")
    before = Store.open(days[0])
    assert (ended.json["users"], ended.json["items"]) == (before.num_users + 1, before.num_items + 2)
    assert ended.json["events"] == before.num_events + 12
    gained = leanrec("data", "describe", data, "--since", "2023-11-14", "--json").json["since"]
    assert gained == {
        "from": 1_699_920_000,
        "events": 12,
        "users": 11,
        "new_users": 1,
        "items": 3,
        "new_items": 2,
    }
    shown = leanrec("data", "describe", data, "--since", TUESDAY + 5).out
    assert "5 events, users 5, of them new 0, items 1, of them new 0" in shown.replace("\n", " ")
    error = leanrec("data", "describe", data, "--since", "soon").error
    assert error.startswith("expected a date such as 2026-11-28 or ")


def test_a_log_that_does_not_fit_changes_nothing(days: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(days[0], tmp_path / "data")
    (tmp_path / "log.csv").write_text("user,item\na,b\n", encoding="utf-8")
    error = refused(tmp_path, "data", "append", tmp_path / "data", tmp_path / "log.csv")
    assert error.startswith(
        f"expected a log with the times that {tmp_path / 'data'} has, got one with none; name its time"
    )


KILLED = """
import signal, sys
from leanrec.data.importer import import_log
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[3]))  # nobody handles it: the process ends at once
import_log(sys.argv[2], sys.argv[1], append=True)
"""


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=pytest.mark.exhaustive)])
def test_killed_anywhere_the_store_is_the_old_or_the_new_one(
    kills: int, days: tuple[Path, Path], tmp_path: Path
) -> None:
    old, log = days
    assert leanrec("data", "append", shutil.copytree(old, tmp_path / "whole"), log).code == 0
    expected, seen, draw = (files(old), files(tmp_path / "whole")), set(), random.Random(1)
    moments = [1e-4, 60.0, *(draw.random() * 0.25 for _ in range(kills - 2))]
    for number, moment in enumerate(moments):
        data = shutil.copytree(old, tmp_path / f"data-{number}")
        subprocess.run([sys.executable, "-c", KILLED, data, log, str(moment)], check=False, capture_output=True)
        found = expected.index(files(data))  # before anything mends it
        seen.add(found)
        if found == 0:  # what was left behind is in nobody's way
            assert leanrec("data", "append", data, log).code == 0
            assert files(data) == expected[1]
        assert not (tmp_path / f".data-{number}.part").exists() or found == 1
        shutil.rmtree(data)
    assert seen == {0, 1}
