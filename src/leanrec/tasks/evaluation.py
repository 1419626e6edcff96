"""Evaluate a run: ranks over the full catalogue, routes, and what every request cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from leanrec.build import OpenRun, trained_on
from leanrec.core.errors import ConfigError, DataError
from leanrec.core.recommender import Recommender
from leanrec.core.types import Route
from leanrec.data.batches import BatchLimits, Questions, ask, lengths, questions, targets
from leanrec.data.newer_events import first_new
from leanrec.data.split import Part, Split
from leanrec.data.store import Store
from leanrec.data.times import shown_date
from leanrec.data.training_log import trained_items
from leanrec.evaluate.metrics import MISSED, summarise
from leanrec.evaluate.rank import Choose, Ranking, rank
from leanrec.tasks.progress import Report, silent, with_progress
from leanrec.techniques import filling

SCORING = BatchLimits(users=1024, tokens=65536)
"""Batches of histories that are only read."""

CALIBRATED = 20_000
"""Most validation users on which routes are chosen."""


@dataclass(frozen=True)
class Evaluation:
    """A run's quality and cost on one part.

    Attributes:
        users: int64 [U], rows of the store.
        targets: int64 [U], item ids; 0 for an item that the run does not know.
        ranking: Ranks and routes.
        flops: int64 [U], FLOPs of each user's request, at the length of its history; routing and head included.
        flops_full: Mean FLOPs of the whole model on the same histories.
        body: Mean FLOPs of the backbone alone, without routing and head.
        body_full: The same for the whole model.
    """

    users: np.ndarray
    targets: np.ndarray
    ranking: Ranking
    flops: np.ndarray
    flops_full: float
    body: float
    body_full: float

    @property
    def metrics(self) -> dict[str, float]:
        """HR, NDCG and MRR at 5, 10 and 20."""
        return summarise(self.ranking.ranks)

    @property
    def flops_ratio(self) -> float:
        """Mean FLOPs of a request, as a share of the whole model's."""
        return float(self.flops.mean()) / self.flops_full

    @property
    def known(self) -> np.ndarray:
        """Whether the run knows the target, bool [U]; targets that it does not know are missed."""
        return self.targets > 0

    @property
    def seen(self) -> int:
        """Known targets that can never be recommended, since their users had them before."""
        return int((self.known & (self.ranking.ranks == MISSED)).sum())

    def rank(self, row: int) -> int | None:
        """The rank of one target; None if it can never be recommended."""
        found = int(self.ranking.ranks[row])
        return None if found == MISSED else found

    def blocks_kept(self, blocks: int) -> np.ndarray:
        """Which of the L blocks ran for each user, bool [U, L]."""
        masks = {
            route: [route.layers is None or i in route.layers for i in range(blocks)]
            for route in set(self.ranking.routes)
        }
        return np.array([masks[route] for route in self.ranking.routes])

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
    route: Route | None = None,
    since: int | None = None,
) -> Evaluation:
    """Rank all users of a part and count what each request cost.

    Args:
        run: A finished run.
        store: Its store, or a view of another one (`data.mapped`).
        part: Of the run's split.
        exclude_seen: Leave out the items of each user's history.
        budget: Mean cost at which routes are chosen; see `checked_budget`.
        progress: Is told how many users are ranked.
        route: Put all of them on it.
        since: As in `asked_of`.
    """
    asked = asked_of(run, store, part, since)
    if route is None:
        budget = checked_budget(budget, run.model.budgets() is not None)
    choose = None if route is None else everyone_on(route)
    ranking = rank_part(run.model, store, asked, exclude_seen, choose, progress, part, budget)
    return with_costs(run, store, asked, ranking)


def asked_of(run: OpenRun, store: Store, part: Part, since: int | None = None) -> Questions:
    """The questions of a part of a run's split; with ``since`` each user's first event from that time on, in the store's unit.

    Raises:
        DataError: There is none, or the run has counted some of the events that are asked for.
    """
    asked = questions(store, split_asked(run, store, since), part if since is None else "test")
    counted = run.manifest.counted
    if counted is not None and store.whole.times is not None:
        known = int((asked.position < first_new(store.whole, counted)[asked.users]).sum())
        if known:
            raise DataError(
                f"expected events that {run.path} has not counted, got {known} of {len(asked.users)} that it has, until "
                f"{shown_date(counted.until)}; ask for newer ones with --since, or evaluate the run as it was trained"
            )
    return asked


def never_trained(run: OpenRun, store: Store, evaluation: Evaluation) -> int | None:
    """Known targets whose item has no event in the run's training part; None for another store than its own."""
    if not trained_on(store, run.manifest.data):
        return None
    return int((~trained_items(store, run.split(store))[evaluation.targets[evaluation.known]]).sum())


def split_asked(run: OpenRun, store: Store, since: int | None = None) -> Split:
    """A run's split, or the one at a time: what came before is its training part."""
    return run.split(store) if since is None else Split.since(store.whole, since)


def with_costs(run: OpenRun, store: Store, asked: Questions, ranking: Ranking) -> Evaluation:
    """A ranking of a run's users with what each request cost."""
    steps = np.minimum(lengths(store, asked), run.model.backbone.max_length)
    flops = run.flops
    routed = list(zip(steps.tolist(), ranking.routes, strict=True))
    return Evaluation(
        asked.users,
        targets(store, asked),
        ranking,
        flops=np.array([flops.request(n, route) + flops.routing(n, route) for n, route in routed]),
        flops_full=float(np.mean([flops.request(n) for n, _ in routed])),
        body=float(np.mean([flops.request(n, route, head=False) for n, route in routed])),
        body_full=float(np.mean([flops.request(n, head=False) for n, _ in routed])),
    )


def rank_part(
    model: Recommender,
    store: Store,
    asked: Questions,
    exclude_seen: bool = False,
    routes: Choose | None = None,
    progress: Report = silent,
    what: str = "rank",
    budget: float | None = None,
) -> Ranking:
    """Ranks and routes of the users that are asked for.

    Args:
        routes: The route of every user of a batch; by default those the model chooses.
        what: Shown by ``progress``.
        budget: At which the model chooses; as in `evaluate_run`.
    """
    batches = with_progress(
        ask(store, asked, model.backbone.max_length, SCORING, model.reads), what, len(asked.users), progress
    )
    return rank(model, batches, targets(store, asked), exclude_seen, routes, budget)


def everyone_on(route: Route) -> Choose:
    """Everyone on one route."""
    return lambda batch: [route] * batch.size


def checked_budget(budget: float | None, choice: bool) -> float | None:
    """A budget, which is above 0 if there is one, of a model with a choice of routes.

    Raises:
        ConfigError: It is not, or there is no choice that a budget could decide.
    """
    if budget is not None and not budget > 0:
        raise ConfigError(f"expected a budget above 0, as a share of the full model's FLOPs, got {budget}")
    if budget is not None and not choice:
        raise ConfigError(
            f"expected no --budget for a model with one route, which costs the same for everyone, got {budget}; drop it, or "
            f"train with a technique that chooses routes, such as --technique {filling('choice')[0]}"
        )
    return budget
