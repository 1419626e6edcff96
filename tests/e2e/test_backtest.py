"""The past played again: a model before every window of time, and the window asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from e2e.command import leanrec
from e2e.conftest import SMALL, TINY
from leanrec.artifact.manifest import read_manifest
from leanrec.tasks.backtest import running

NAMES = ["never updated", "retrained", "refreshed", "popular", "recent", "followers", "repeat"]
ASKED = (*SMALL, "train.epochs=1", "--windows", 2, "--refresh")


@pytest.fixture(scope="module")
def rolled(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backtest that was stopped after its first window was trained, and gone on with."""
    out = tmp_path_factory.mktemp("backtest") / "deep" / "rolling"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running.Backtest, "judge", stopped)
        assert leanrec("backtest", shop, *ASKED, "--out", out).code == 130
    assert not (out / "backtest.json").exists()
    shown = leanrec("backtest", shop, *ASKED, "--out", out)
    assert shown.code == 0, shown.err
    assert "window 2 of 2, from 2024-" in shown.err and "by windows since the training" in shown.out
    return out


def stopped(*_: object) -> list[str]:
    raise KeyboardInterrupt


def kept(folder: Path) -> dict[Path, tuple[int, int]]:
    found = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}


def test_a_window_is_asked_for_of_all_models(rolled: Path, shop: Path) -> None:
    found = json.loads((rolled / "backtest.json").read_text("utf-8"))
    assert [(row["window"], row["model"]) for row in found["rows"]] == [(w, name) for w in (1, 2) for name in NAMES]
    assert all(one["users"] > 0 and one["seconds"].keys() == {"retrained", "refreshed"} for one in found["windows"])
    for row in found["rows"]:
        low, high = row["ci95"]["ndcg@10"]
        assert low <= row["metrics"]["ndcg@10"] <= high
    config = read_manifest(rolled / "window-2" / "refreshed").config
    assert Path(config["train"]["init"]) == (rolled / "window-1" / "trained").resolve()
    assert read_manifest(rolled / "window-2" / "trained").config["train"]["init"] == ""
    names = {text.text for text in ElementTree.parse(rolled / "backtest.svg").iter() if text.tag.endswith("text")}
    assert names >= {*NAMES, "NDCG@10", "window"}


def test_the_same_command_does_nothing_twice(rolled: Path, shop: Path) -> None:
    first = json.loads((rolled / "backtest.json").read_text("utf-8"))
    before = kept(rolled)
    again = leanrec("backtest", shop, *ASKED, "--out", rolled, "--json")
    assert again.json == first and again.err.count("done before") == 2
    shutil.rmtree(rolled / "window-2")
    once_more = leanrec("backtest", shop, *ASKED, "--out", rolled, "--json").json
    assert without_time(once_more) == without_time(first)
    now = kept(rolled / "window-1")
    assert now == {path: stat for path, stat in before.items() if path.is_relative_to(rolled / "window-1")}


def without_time(found: dict[str, list[dict[str, object]]]) -> dict[str, list[dict[str, object]]]:
    return found | {"windows": [{**one, "seconds": None} for one in found["windows"]]}


def test_a_run_brings_its_configuration(plain: Path, shop: Path, tmp_path: Path) -> None:
    ended = leanrec(
        "backtest", shop, "--run", plain, "--windows", 1, "--every", "60d", "--out", tmp_path / "out", "--json"
    )
    assert ended.json["windows"][0]["until"] - ended.json["windows"][0]["from"] == 60 * 86_400
    tree = read_manifest(tmp_path / "out" / "window-1" / "trained").config
    assert tree["backbone"] == read_manifest(plain).config["backbone"]


def untimed(where: Path) -> Path:
    rows = [f"u{user},i{step}" for user in range(9) for step in range(4)]
    (where / "log.csv").write_text("\n".join(["user,item", *rows]) + "\n", "utf-8")
    assert leanrec("data", "import", where / "log.csv", "--out", where / "data").code == 0
    return where / "data"


Asked = Callable[[Path, Path, Path], tuple[object, ...]]
REFUSED: dict[str, tuple[Asked, str]] = {
    "no times": (
        lambda where, shop, run: (untimed(where), "--backbone", "sasrec"),
        "expected a log with times to backtest on, got none in ",
    ),
    "every": (
        lambda where, shop, run: (shop, "--backbone", "sasrec", "--every", "weekly"),
        "expected --every as a length of time such as 7d, 12h or 30m, or a whole number in the unit of the log, got 'weekly'",
    ),
    "too long": (
        lambda where, shop, run: (shop, "--backbone", "sasrec", "--every", "100w"),
        "expected events before the first window, which starts at ",
    ),
    "both": (
        lambda where, shop, run: (shop, "--run", run, "--backbone", "sasrec"),
        "expected --run, or --backbone, --recipe and --technique, got both",
    ),
    "init": (
        lambda where, shop, run: (shop, "--backbone", "sasrec", f"train.init={run}"),
        "expected a backtest without train.init, since that run may have seen the windows",
    ),
    "nothing": (lambda where, shop, run: (shop,), "expected backbone.name, got none"),
    "no store": (
        lambda where, shop, run: (where / "no", "--backbone", "sasrec"),
        "expected a store, got no directory at ",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_played_is_refused_in_one_line(name: str, shop: Path, plain: Path, tmp_path: Path) -> None:
    asked, expected = REFUSED[name]
    assert leanrec("backtest", *asked(tmp_path, shop, plain), "--out", tmp_path / "out").error.startswith(expected)
    assert not (tmp_path / "out").exists()


def test_another_backtest_is_not_gone_on_with(rolled: Path, shop: Path) -> None:
    error = leanrec("backtest", shop, *SMALL, *TINY[:1], "--windows", 2, "--out", rolled).error
    assert error.startswith(f"expected the backtest that {rolled} was started with, got one with other config; ")
