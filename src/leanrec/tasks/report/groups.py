"""Groups of users: by length of history, by popularity of their next item, and by kind where a simulation knows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leanrec.data.store import Store
from leanrec.tasks.evaluation import Evaluation

_QUARTERS = 4


@dataclass(frozen=True)
class UserGroup:
    """Figures of a group of users.

    Attributes:
        name: Of the group.
        users: How many.
        metric: Their mean NDCG@10.
        half: Half of its 95 % interval.
        share: Their mean FLOPs, as a share of what the first run spends on them.
    """

    name: str
    users: int
    metric: float
    half: float
    share: float


def groupings(evaluation: Evaluation, ndcg: np.ndarray, whole: np.ndarray, store: Store) -> dict[str, list[UserGroup]]:
    """Quality and cost by group.

    Args:
        evaluation: Of a run.
        ndcg: float [U], its users' NDCG@10.
        whole: [U], what the first run spends on them.
        store: The interactions.
    """
    length = np.diff(store.offsets)[evaluation.users]
    count = np.array([0, *store.catalog.counts])[evaluation.targets]
    found = {
        "history length": [(_span(length[rows], "events"), rows) for rows in quarters(length)],
        "popularity of the next item": [(_span(count[rows], "sales"), rows) for rows in quarters(count)],
    }
    table = store.users_table()
    if "kind" in table.columns:
        kinds = table["kind"].to_numpy()[evaluation.users]
        found["group of users"] = [(str(kind), np.flatnonzero(kinds == kind)) for kind in sorted(set(kinds))]
    return {
        title: [_group(name, rows, evaluation, ndcg, whole) for name, rows in parts] for title, parts in found.items()
    }


def _group(name: str, rows: np.ndarray, evaluation: Evaluation, ndcg: np.ndarray, whole: np.ndarray) -> UserGroup:
    here = ndcg[rows]
    half = 1.96 * float(here.std()) / max(len(rows), 1) ** 0.5
    return UserGroup(
        name, len(rows), float(here.mean()), half, float(evaluation.flops[rows].mean() / whole[rows].mean())
    )


def quarters(values: np.ndarray) -> list[np.ndarray]:
    """Rows by quarters of the values; fewer where many values are equal."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _QUARTERS + 1)[1:-1], method="nearest"))
    part = np.searchsorted(edges, values, side="left")
    return [np.flatnonzero(part == p) for p in np.unique(part)]


def _span(values: np.ndarray, unit: str) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low} {unit}" if low == high else f"{low}–{high} {unit}"
