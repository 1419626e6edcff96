"""The demo, in its shortest form."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.command import leanrec
from leanrec import tasks


@pytest.fixture(autouse=True)
def short_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tasks.run_bench

    def run_bench(*arguments: Any, seconds: float, **options: Any) -> Any:
        return whole(*arguments, seconds=0.1, **options)

    monkeypatch.setattr(tasks, "run_bench", partial(run_bench))


def test_demo_as_json(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    result = leanrec("demo", "--users", 60, "--epochs", 1, "--out", out, "--json")
    found = result.json
    assert list(found) == ["out", "runs", "machine"]
    full, small, lean = (found["runs"][name] for name in ("full", "small", "lean"))
    assert small["cost"]["params"] < full["cost"]["params"]
    assert small["cost"]["flops_per_user"] < full["cost"]["flops_per_user"]
    assert full["ms_per_user"] > 0
    assert full["oracle"] == small["oracle"]
    assert lean["cost"]["flops_ratio"] < 0.5
    assert lean["kinds_flops_ratio"].keys() == lean["kinds"].keys()
    assert "simulating a shop of 60 users" in result.err
    assert {path.name for path in out.iterdir()} == {"shop", "full", "small", "lean"}
    for name in ("small", "lean"):
        again = leanrec("evaluate", out / name, "--json").json
        assert again["metrics"] == found["runs"][name]["metrics"]


def test_demo_for_people(tmp_path: Path) -> None:
    shown = leanrec("demo", "--users", 60, "--epochs", 1, "--out", tmp_path / "demo")
    assert shown.code == 0
    rows = {line.split("│")[1].strip() for line in shown.out.splitlines() if line.startswith("│")}
    assert rows == {"full", "small", "lean", "best reachable"}
    for word in ("NDCG@10 [95 %]", "habit", "memory", "composer", "params", "FLOPs/user", "ms/user"):
        assert word in shown.out
    assert "try: leanrec evaluate" in shown.out
