"""Answer with runs and exports: measure them side by side, judge what they recommend, recommend to everyone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

from leanrec.build import OpenRun
from leanrec.core.errors import DataError
from leanrec.core.types import Route
from leanrec.cost.bench import BenchResult, bench
from leanrec.data.batches import BatchLimits, Questions, ask, everyone, had_before, targets
from leanrec.data.either import store_or_log
from leanrec.data.mapped import mapped
from leanrec.data.split import Part
from leanrec.data.store import Store, write_parquet
from leanrec.engine.engine import Engine
from leanrec.evaluate.metrics import CUTOFFS, MISSED, listed_ranks
from leanrec.evaluate.rank import Ranking
from leanrec.opening import Answering
from leanrec.tasks.evaluation import Evaluation, asked_of, checked_budget, with_costs
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
    """Measure runs and exports side by side on whole histories drawn from the first one's store, each in its own ids."""
    first = runs[0].store(data)
    stores = [first, *(run.store(first.path) for run in runs[1:])]
    known = np.logical_and.reduce([np.diff(store.offsets) > 0 for store in stores])
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(known))[:_SAMPLE]
    histories = {
        str(run.path): [store.history(int(user)).astype(np.int64) for user in chosen]
        for run, store in zip(runs, stores, strict=True)
    }
    checked_budget(budget, any(run.engine.budgets is not None for run in runs))
    return bench({str(run.path): run.engine for run in runs}, batches, histories, k, seconds, budget=budget)


@contextmanager
def open_data(run: Answering, data: Path, progress: Report = silent) -> Iterator[Store]:
    """A store, or a log that is imported to a temporary place, its histories in the ids of a run or an export.

    Raises:
        DataError: It is neither, or none of its items is known.
    """
    with store_or_log(data, progress) as store:
        yield mapped(store, run.engine.catalog)


def recommended(
    run: Answering,
    store: Store,
    k: int,
    exclude_seen: bool = False,
    budget: float | None = None,
    progress: Report = silent,
    users: Sequence[str] | None = None,
) -> pl.DataFrame:
    """The k best items of the users of a store: user, rank, item, title, score; fewer where there are not k.

    Users of whom no item is known are left out.

    Args:
        run: A run or an export.
        store: As `Answering.store` opens it.
        k: Items wanted for each user.
        exclude_seen: Leave out the items of each user's history.
        budget: As in `evaluate_run`.
        progress: Is told how many users are answered.
        users: Keys of the only users that are asked for.

    Raises:
        DataError: The store does not have one of these users.
    """
    engine, asked, keys = run.engine, everyone(store), store.users_table()["user"]
    if users is not None:
        asked = _chosen(asked, keys, users, store.path)
    checked_budget(budget, engine.budgets is not None)
    k, count = min(k, engine.num_items), len(asked.users)
    ids, scores = np.zeros((count, k), np.int64), np.zeros((count, k), np.float32)
    for rows, best, score, _ in _answers(engine, store, asked, k, exclude_seen, budget, "recommend", progress):
        ids[rows], scores[rows] = best, score
    catalog = pl.DataFrame({"item": engine.catalog.keys, "title": engine.catalog.titles})
    frame = pl.DataFrame(
        {
            "user": keys.gather(np.repeat(asked.users, k)),
            "rank": np.tile(np.arange(1, k + 1), count),
            "item": catalog["item"].gather(ids.ravel() - 1),
            "title": catalog["title"].gather(ids.ravel() - 1),
            "score": scores.ravel(),
        }
    )
    return frame.filter(pl.col("score").is_finite())


def _chosen(asked: Questions, keys: pl.Series, users: Sequence[str], path: Path) -> Questions:
    wanted = pl.Series(list(dict.fromkeys(users)), dtype=pl.String)
    missing = wanted.filter(~wanted.is_in(keys.implode()))
    if len(missing):
        raise DataError(f"expected users of {path}, such as {keys[0][:60]!r}, got {missing[0][:60]!r}; check --user")
    rows = np.flatnonzero(keys.is_in(wanted.implode()).to_numpy()[asked.users])
    return Questions(asked.users[rows], asked.position[rows])


def recommend_all(
    run: Answering,
    data: Path | None,
    out: Path,
    k: int,
    exclude_seen: bool = False,
    budget: float | None = None,
    progress: Report = silent,
) -> int:
    """Write what is `recommended` to every user of a store as Parquet, and return how many users there are."""
    frame = recommended(run, run.store(data), k, exclude_seen, budget, progress)
    write_parquet(frame, out)
    return frame["user"].n_unique()


def evaluate_export(
    run: OpenRun,
    engine: Engine,
    store: Store,
    part: Part,
    exclude_seen: bool = False,
    budget: float | None = None,
    progress: Report = silent,
    since: int | None = None,
) -> Evaluation:
    """As `evaluate_run`, of what an export of the run recommends; a target that its first `_LISTED` items lack ranks last."""
    checked_budget(budget, engine.budgets is not None)
    asked = asked_of(run, store, part, since)
    wanted, last = targets(store, asked), store.num_items
    ranks, routes = np.full(len(wanted), last), [Route()] * len(wanted)
    k = min(_LISTED, last)
    for rows, ids, _, taken in _answers(engine, store, asked, k, exclude_seen, budget, part, progress):
        ranks[rows] = listed_ranks(ids, wanted[rows], last)
        for row, route in zip(rows, taken, strict=True):
            routes[row] = route
    never = (wanted == 0) | (had_before(store, asked) & exclude_seen)
    ranks[never] = MISSED
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
