from __future__ import annotations

import json
from pathlib import Path

import pytest

from leanrec.data.describe import describe
from leanrec.data.importer import import_log


def described(tmp_path: Path, text: str) -> dict[str, object]:
    (tmp_path / "shop.csv").write_text(text)
    facts = describe(import_log(tmp_path / "shop.csv", tmp_path / "store"))
    assert json.loads(json.dumps(facts)) == facts
    return facts


def test_all_figures_of_a_small_log(tmp_path: Path) -> None:
    rows = ["user,item,time"]
    rows += [f"ann,{item},{time}" for time, item in enumerate("aabac", 10)]  # a a b a c
    rows += ["bob,a,1", "bob,b,2", "cyd,a,30", "cyd,a,31", "cyd,d,32"]
    facts = described(tmp_path, "\n".join(rows))
    assert facts == {
        "name": "shop",
        "source": "shop.csv",
        "users": 3,
        "items": 4,
        "events": 10,
        "density": 7 / 12,
        "length": {
            "mean": pytest.approx(10 / 3),
            "median": 3.0,
            "p90": pytest.approx(4.6),
            "max": 5,
            "histogram": [
                {"from": 1, "below": 2, "users": 0},
                {"from": 2, "below": 3, "users": 1},
                {"from": 3, "below": 5, "users": 1},
                {"from": 5, "below": None, "users": 1},
            ],
        },
        "short_users": 1,
        # counts 6 2 1 1: Gini = sum over pairs of |difference| / (2 n^2 mean)
        "popularity": {"gini": pytest.approx(0.4), "top_1_percent": 0.6, "top_10_percent": 0.6},
        "time": {"first": 1, "last": 32},
        "repeat_share": pytest.approx(0.3),
        "advice": "",
        "immediate_repeat_share": pytest.approx(2 / 7),
        "dropped": {},
        "notes": [
            "csv: user from 'user', item from 'item', time from 'time'",
            "1 users have fewer than three events; they train but are not evaluated",
        ],
    }


def test_without_times(tmp_path: Path) -> None:
    facts = described(tmp_path, "user,item\na,x\na,y\na,z\nb,x\n")
    assert facts["time"] is None
    assert facts["repeat_share"] == 0


def test_an_even_catalogue_has_no_gini(tmp_path: Path) -> None:
    facts = described(tmp_path, "user,item\n" + "".join(f"{user},{item}\n" for user in "ab" for item in "wxyz"))
    assert facts["popularity"] == {"gini": 0.0, "top_1_percent": 0.25, "top_10_percent": 0.25}
