"""What is not trained because it cannot win."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leanrec.config import parse
from leanrec.core.types import Catalog
from leanrec.evaluate.losses import Loss
from leanrec.tasks.slim.candidates import Candidate, fitted, recipes
from leanrec.tasks.slim.journal import Journal, Point, Trial
from leanrec.tasks.slim.plan import Plan
from leanrec.tasks.slim.trying import Trials

NAMES = tuple(map(str, range(3000)))
CATALOG = Catalog(NAMES, NAMES, tuple(range(3000, 0, -1)))
FULL = parse({"backbone": {"name": "sasrec", "width": 32, "layers": 4, "heads": 2}, "train": {"epochs": 20}})
PLAN = Plan(data="", catalog_sha256="", config={}, max_loss=0.05, limits={}, techniques=None)


def tried(**lows: float) -> Trials:
    """A search in which candidates of these names lose at least so much, all others being untried."""
    found = {recipe.name: fitted(recipe, FULL, Path("full"), 20, CATALOG) for recipe in recipes(["canet", "cprec"])}
    candidates = {name: one for name, one in found.items() if isinstance(one, Candidate)}
    trials = [
        Trial(
            name=name, points=[Point(name=name, budget=None, flops=1, bytes=1, params=1, loss=Loss(low, low, 1, 1, 1))]
        )
        for name, low in lows.items()
    ]
    journal = Journal(plan=PLAN, started="", trials=trials)
    search = Trials(cast(Any, SimpleNamespace(journal=journal, plan=PLAN, tell=None, points=[])))
    search.candidates = candidates
    return search


@pytest.mark.parametrize(("low", "why"), [(0.06, "cprec alone loses more than is allowed"), (0.05, ""), (-0.01, "")])
def test_a_pair_of_which_one_alone_surely_loses_too_much(low: float, why: str) -> None:
    search = tried(cprec=low)
    assert search._needless(search.candidates["canet-cprec"]) == why
    assert search._needless(search.candidates["canet"]) == ""
    assert search._needless(search.candidates["cprec"]) == ""


def test_one_that_is_set_otherwise_says_nothing_of_a_pair() -> None:
    search = tried(**{"cprec-codes": 0.9})
    assert search._needless(search.candidates["canet-cprec"]) == ""
