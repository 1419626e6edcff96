"""What costs nothing to train: popular items and tables of counts, beside any run, on the same users.

A run that is not above them is not worth its time. They are the recipes of the same names, counted on the training part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from leanrec.build import build
from leanrec.config import parse, read_recipe
from leanrec.core.errors import DataError
from leanrec.data.batches import Questions
from leanrec.data.split import Split
from leanrec.data.store import Store
from leanrec.data.training_log import TrainingLog
from leanrec.evaluate.controls import difference
from leanrec.evaluate.metrics import gains, intervals, summarise
from leanrec.tasks.evaluation import rank_part
from leanrec.tasks.progress import Report, silent
from leanrec.tasks.words import ahead_by, within
from leanrec.train.loop import METRIC

BASELINES = ("popular", "recent", "followers", "repeat")


@dataclass(frozen=True)
class Baseline:
    """A recipe without training on the users that a run was asked about.

    Attributes:
        name: Of the recipe.
        ranks: int64 [U], of the targets; empty where it could not be counted.
        why_not: Why it could not; empty where it could.
    """

    name: str
    ranks: np.ndarray
    why_not: str = ""

    def result(self, ranks: np.ndarray) -> dict[str, Any]:
        """Metrics with intervals, and the lead of a run with these ``ranks`` over it, with its interval."""
        if self.why_not:
            return {"why_not": self.why_not}
        lead = difference(gains(METRIC, ranks), gains(METRIC, self.ranks))
        spans = {name: list(pair) for name, pair in intervals(self.ranks).items()}
        return {"metrics": summarise(self.ranks), "ci95": spans, "lead": list(lead)}


def baselines(
    store: Store, split: Split, asked: Questions, exclude_seen: bool = False, progress: Report = silent
) -> list[Baseline]:
    """All baselines, counted on the training part of a split.

    Args:
        store: The interactions, or a view of them with a run's items.
        split: Whose training part is counted.
        asked: Users and the places of their targets.
        exclude_seen: Leave out the items of each user's history.
        progress: Is told how many users are ranked.
    """
    events = TrainingLog(store, split)
    return [_baseline(name, store, events, asked, exclude_seen, progress) for name in BASELINES]


def _baseline(
    name: str, store: Store, events: TrainingLog, asked: Questions, exclude_seen: bool, progress: Report
) -> Baseline:
    model, _ = build(parse(read_recipe(name)), store.catalog)
    try:
        model.count(events)
    except DataError as error:
        return Baseline(name, np.zeros(0, np.int64), str(error))
    found = rank_part(model.eval(), store, asked, exclude_seen, progress=progress, what=name)
    return Baseline(name, found.ranks)


def baseline_rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Results by recipe as a table: recipe, NDCG@10, HR@10, and the lead of the run."""
    return [
        [name, row["why_not"], "", ""]
        if "why_not" in row
        else [
            name,
            within(row["metrics"][METRIC], row["ci95"][METRIC]),
            f"{row['metrics']['hr@10']:.4f}",
            ahead_by(*row["lead"]),
        ]
        for name, row in found.items()
    ]
