"""Answer with runs and exports: measure them side by side, judge what they recommend, recommend to everyone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from leanrec.build import OpenRun
from leanrec.core.types import Route
from leanrec.cost.bench import BenchResult, bench
from leanrec.data.batches import BatchLimits, Questions, ask, everyone, questions, targets
from leanrec.data.split import Part
from leanrec.data.store import Store, write_parquet
from leanrec.engine.engine import Engine
from leanrec.evaluate.metrics import CUTOFFS, listed_ranks
from leanrec.evaluate.rank import Ranking
from leanrec.opening import Answering
from leanrec.tasks.evaluation import Evaluation, checked_budget, with_costs
from leanrec.tasks.progress import Report, silent, with_progress

_SAMPLE = 4096
"""Histories that a bench draws its requests from."""

_ASKED = BatchLimits(users=8192, tokens=2**19)
"""Histories that are read at once; the engine cuts them into parts for its threads."""

BATCHES = (1, 32)
"""Users of the requests that a report gives times of."""

_LISTED = max(CUTOFFS)
"""Items of a recommendation that metrics look at."""


def run_bench(
    runs: Sequence[Answering],
    data: Path | None,
    batches: Sequence[int],
    seconds: float,
    k: int,
    budget: float | None = None,
) -> BenchResult:
    """Measure runs and exports side by side on whole histories drawn from the first one's store."""
    store = runs[0].store(data)
    chosen = np.random.default_rng(0).permutation(store.num_users)[:_SAMPLE]
    histories = [store.history(int(user)).astype(np.int64) for user in chosen]
    checked_budget(budget, any(run.engine.budgets is not None for run in runs))
    return bench({str(run.path): run.engine for run in runs}, batches, histories, k, seconds, budget=budget)


def recommend_all(
    run: Answering,
    data: Path,
    out: Path,
    k: int,
    exclude_seen: bool = False,
    budget: float | None = None,
    progress: Report = silent,
) -> int:
    """Write the k best items of every user of a store as Parquet: user, rank, item, title, score.

    The store may be a newer one; it needs the run's catalogue.

    Returns:
        The number of users.
    """
    store, engine = run.store(data), run.engine
    checked_budget(budget, engine.budgets is not None)
    best_k = min(k, store.num_items)  # a k that is too large is refused with the first batch
    ids = np.zeros((store.num_users, best_k), np.int64)
    scores = np.zeros((store.num_users, best_k), np.float32)
    for rows, best, score, _ in _answers(
        engine, store, everyone(store), k, exclude_seen, budget, "recommend", progress
    ):
        ids[rows], scores[rows] = best, score
    catalog = pl.DataFrame({"item": store.catalog.keys, "title": store.catalog.titles})
    frame = pl.DataFrame(
        {
            "user": store.users_table()["user"].gather(np.repeat(np.arange(store.num_users), k)),
            "rank": np.tile(np.arange(1, k + 1), store.num_users),
            "item": catalog["item"].gather(ids.ravel() - 1),
            "title": catalog["title"].gather(ids.ravel() - 1),
            "score": scores.ravel(),
        }
    )
    write_parquet(frame.filter(pl.col("score").is_finite()), out)
    return store.num_users


def evaluate_export(
    run: OpenRun,
    engine: Engine,
    store: Store,
    part: Part,
    exclude_seen: bool = False,
    budget: float | None = None,
    progress: Report = silent,
) -> Evaluation:
    """Evaluate what an export of the run recommends. A target that is not among the first `_LISTED` items ranks last."""
    checked_budget(budget, engine.budgets is not None)
    asked = questions(store, run.split(store), part)
    wanted, last = targets(store, asked), store.num_items
    ranks, routes = np.full(len(wanted), last), [Route()] * len(wanted)
    k = min(_LISTED, last)
    for rows, ids, _, taken in _answers(engine, store, asked, k, exclude_seen, budget, part, progress):
        ranks[rows] = listed_ranks(ids, wanted[rows], last)
        for row, route in zip(rows, taken, strict=True):
            routes[row] = route
    return with_costs(run, store, asked, Ranking(ranks, routes))


def _answers(
    engine: Engine,
    store: Store,
    asked: Questions,
    k: int,
    exclude_seen: bool,
    budget: float | None,
    what: str,
    progress: Report,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, list[Route]]]:
    """The users of one batch after the other: their rows in ``asked``, and ids, scores and routes of `Engine.recommend_ids`."""
    longest, reads = engine.runner.max_length, engine.reads
    batches = ask(store, asked, longest, _ASKED, reads)
    for question in with_progress(batches, what, len(asked.users), progress):
        seen = question.seen
        histories, context = store.histories(np.maximum(seen.start, seen.end - longest), seen.end, reads)
        exclude = seen.histories() if exclude_seen else None
        yield question.rows, *engine.recommend_ids(histories, k, exclude, budget, context)
