"""The demo, in its shortest form."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from e2e.command import Result, leanrec


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The demo, once."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    return out, leanrec("demo", "--users", 60, "--epochs", 2, "--max-loss", 0.9, "--out", out, "--json")


def test_demo_as_json(ended: tuple[Path, Result]) -> None:
    out, result = ended
    found = result.json
    assert found["out"] == str(out)
    assert {"chosen", "baseline", "candidates", "saving", "test_loss", "report", "headline", "oracle"} <= found.keys()
    assert result.err.startswith("simulating a shop of 60 users")
    assert {path.name for path in out.iterdir()} == {"shop", "slim"} and found["export"] is None
    assert Path(found["report"]).read_text().startswith("<!doctype html>")
    assert json.loads((out / "slim" / "slim.json").read_text()) == {k: v for k, v in found.items() if k != "out"}
    for run in filter(None, (found["baseline"], found["chosen"])):
        assert leanrec("evaluate", run["run"], "--json").json["metrics"] == run["metrics"]


def test_demo_for_people_opens_with_the_sentence(
    ended: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ended[1].json
    monkeypatch.setattr("leanrec.cli.demo.search_and_report", lambda *_: found)
    shown = leanrec("demo", "--users", 20, "--out", tmp_path / "demo")
    assert shown.code == 0
    first = shown.out.splitlines()[0]
    assert re.search(r"x cheaper .* for one user\), quality ", first) or first.startswith("No cheaper model was found")
    for word in (
        "what was tried",
        "canet",
        "tiny",
        "a router that knows the easy users would save",
        "try: leanrec evaluate",
        "leanrec export",
    ):
        assert word in shown.out


def test_demo_does_not_touch_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    ended = leanrec("demo", "--out", tmp_path)
    assert ended.code == 2 and f"{tmp_path} exists and is not empty; delete it or choose another --out" in ended.err
