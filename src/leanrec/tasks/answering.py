"""Answer with runs: measure them side by side, recommend to everyone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from leanrec.cost.bench import BenchResult, bench
from leanrec.data.batches import ask, everyone
from leanrec.data.store import write_parquet
from leanrec.tasks.evaluation import SCORING, checked
from leanrec.tasks.exporting import Answering
from leanrec.tasks.progress import Report, reported, silent

SAMPLE = 4096
"""Histories that a bench draws its requests from."""


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
    chosen = np.random.default_rng(0).permutation(store.num_users)[:SAMPLE]
    histories = [store.history(int(user)).astype(np.int64) for user in chosen]
    return bench({str(run.path): run.engine for run in runs}, batches, histories, k, seconds, budget=checked(budget))


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
    best_k = min(k, store.num_items)  # a k that is too large is refused with the first batch
    ids = np.zeros((store.num_users, best_k), np.int64)
    scores = np.zeros((store.num_users, best_k), np.float32)
    asked = ask(store, everyone(store), engine.runner.max_length, SCORING)
    for question in reported(asked, "recommend", store.num_users, progress):
        exclude = question.seen.numpy() if exclude_seen else None
        histories = [
            row[:length]
            for row, length in zip(question.batch.items.numpy(), question.batch.lengths.tolist(), strict=True)
        ]
        ids[question.rows], scores[question.rows], _ = engine.recommend_ids(histories, k, exclude, budget)
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
