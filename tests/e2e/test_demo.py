"""The demo, in its shortest form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2e.command import leanrec


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanrec.tasks.slim.search.MEASURE", 0.1)
    monkeypatch.setattr("leanrec.tasks.report.facts.SECONDS", 0.1)
    monkeypatch.setattr("leanrec.cli.demo.MAX_LOSS", 0.9)


def test_demo_as_json(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    result = leanrec("demo", "--users", 60, "--epochs", 2, "--out", out, "--json")
    found = result.json
    assert found["out"] == str(out)
    assert {"chosen", "baseline", "candidates", "saving", "test_loss", "report", "headline", "oracle"} <= found.keys()
    assert result.err.startswith("simulating a shop of 60 users")
    assert {path.name for path in out.iterdir()} == {"shop", "slim"}
    assert Path(found["report"]).read_text().startswith("<!doctype html>")
    assert json.loads((out / "slim" / "slim.json").read_text()) == {k: v for k, v in found.items() if k != "out"}
    for run in filter(None, (found["baseline"], found["chosen"])):
        assert leanrec("evaluate", run["run"], "--json").json["metrics"] == run["metrics"]


def test_demo_for_people_opens_with_the_sentence(tmp_path: Path) -> None:
    shown = leanrec("demo", "--users", 60, "--epochs", 1, "--out", tmp_path / "demo")
    assert shown.code == 0
    first = shown.out.splitlines()[0]
    assert "x cheaper, quality" in first or first.startswith("No cheaper model was found")
    for word in (
        "what was tried",
        "canet",
        "tiny",
        "a router that knows the easy users would save",
        "try: leanrec evaluate",
    ):
        assert word in shown.out


def test_demo_does_not_touch_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    ended = leanrec("demo", "--out", tmp_path)
    assert ended.code == 2 and f"{tmp_path} exists and is not empty; delete it or choose another --out" in ended.err
