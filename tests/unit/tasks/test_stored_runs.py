"""Runs of schema 1, as they were written when it was the newest, with what they answered then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leanrec.build import open_run

RUNS = sorted((Path(__file__).parents[2] / "fixtures").glob("*-schema-1"))
ASKED = [["i1", "i2", "i3"], ["i7"], ["i4", "i9", "i2", "i8"]]


def test_there_are_runs_of_schema_1() -> None:
    assert len(RUNS) == 2
    assert all(json.loads((run / "manifest.json").read_bytes())["schema"] == 1 for run in RUNS)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_stored_run_answers_as_it_did(run: Path) -> None:
    engine = open_run(run).engine()
    for budget, answers in json.loads((run / "answers.json").read_bytes()).items():
        found = engine.recommend(ASKED, 3, budget=None if budget == "None" else float(budget))
        for answer, expected in zip(found, answers, strict=True):
            assert str(answer.route) == expected["route"]
            assert [item.item for item in answer.items] == [item for item, _ in expected["items"]]
            assert [item.score for item in answer.items] == pytest.approx(
                [score for _, score in expected["items"]], abs=2e-6
            )
