"""Evaluate a run: ranks over the full catalogue, routes, and what every request cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from leanrec.build import OpenRun, split_of
from leanrec.core.errors import ConfigError
from leanrec.core.recommender import Recommender
from leanrec.core.types import Route
from leanrec.cost.count import flops_per_user
from leanrec.data.batches import Limits, ask, questions, targets
from leanrec.data.split import Split
from leanrec.data.store import Store
from leanrec.evaluate.metrics import summarise
from leanrec.evaluate.rank import Ranking, rank
from leanrec.tasks.progress import Report, reported, silent

SCORING = Limits(users=1024, tokens=65536)
"""Batches of histories that are only read."""

Part = Literal["valid", "test"]


@dataclass(frozen=True)
class Evaluation:
    """A run's quality and cost on one part.

    Attributes:
        users: int64 [U], rows of the store.
        targets: int64 [U], item ids.
        ranking: Ranks and routes.
        flops: int64 [U], FLOPs of each user's request, at the length of its history.
        flops_full: Mean FLOPs of the whole model on the same histories.
    """

    users: np.ndarray
    targets: np.ndarray
    ranking: Ranking
    flops: np.ndarray
    flops_full: float

    @property
    def metrics(self) -> dict[str, float]:
        """HR, NDCG and MRR at 5, 10 and 20."""
        return summarise(self.ranking.ranks)

    def route_shares(self) -> dict[str, float]:
        """Share of users on each route."""
        counts = Counter(map(str, self.ranking.routes))
        return {route: n / len(self.users) for route, n in counts.most_common()}


def evaluate_run(
    run: OpenRun,
    store: Store,
    part: Part,
    exclude_seen: bool = False,
    budget: float | None = None,
    progress: Report = silent,
) -> Evaluation:
    """Rank all users of a part and count what each request cost."""
    split = split_of(store, run.config)
    asked = questions(store, split, part)
    ranking = rank_part(run.model, store, split, part, exclude_seen, budget, progress)
    steps = np.minimum(asked.position - store.offsets[asked.users], run.model.backbone.max_length)
    counted: dict[tuple[int, Route], int] = {}

    def flops(length: int, route: Route) -> int:
        key = (length, route)
        if key not in counted:
            counted[key] = flops_per_user(run.model, length, route)
        return counted[key]

    spent = np.array([flops(int(n), route) for n, route in zip(steps, ranking.routes, strict=True)])
    full = np.mean([flops(int(n), Route()) for n in steps])
    return Evaluation(asked.users, targets(store, asked), ranking, spent, float(full))


def rank_part(
    model: Recommender,
    store: Store,
    split: Split,
    part: Part,
    exclude_seen: bool = False,
    budget: float | None = None,
    progress: Report = silent,
) -> Ranking:
    """Ranks and routes of all users of a part.

    Raises:
        ConfigError: The budget is not above 0.
        DataError: No user has a target.
    """
    if budget is not None and not budget > 0:
        raise ConfigError(f"expected a budget above 0, as a share of the full model's FLOPs, got {budget}")
    asked = questions(store, split, part)
    batches = reported(ask(store, asked, model.backbone.max_length, SCORING), part, len(asked.users), progress)
    return rank(model, batches, targets(store, asked), exclude_seen, budget)
