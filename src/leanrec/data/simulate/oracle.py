"""What is best in a simulated shop: the true next-item distributions, the best ranking, the best routing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from leanrec.core.errors import DataError
from leanrec.data.simulate.names import slug
from leanrec.data.simulate.shop import KINDS, Shop, open_shop
from leanrec.data.split import Part
from leanrec.data.store import Store

_CUTS = (5, 10, 20)
_CHUNK = 4096


class Oracle:
    """Knows the true next-item distribution of every user of a simulated store.

    Args:
        store: A store written by `simulate`.

    Raises:
        DataError: The store was not simulated.
    """

    def __init__(self, store: Store) -> None:
        if store.meta.simulation is None:
            raise DataError(f"{store.path.name}: expected a simulated store, got one imported from {store.meta.source}")
        self.store = store
        self.world = open_shop(msgspec.convert(store.meta.simulation, Shop))
        self.kinds = np.array([KINDS.index(kind) for kind in store.users_table()["kind"].to_list()])
        number = {slug(title): index for index, title in enumerate(self.world.titles)}
        self._numbers = np.array([-1, *(number[key] for key in store.catalog.keys)])

    def distribution(self, kinds: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        """The true distribution of the next item, exact.

        Args:
            kinds: int [B], index into `KINDS`.
            histories: B arrays of item ids of the store, oldest first.

        Returns:
            float64 [B, N]; column i is item id i + 1. A row falls short of 1 by what nobody ever bought.
        """
        world, shop = self.world, self.world.shop
        steps = max(map(len, histories), default=0)
        bought = np.full((len(histories), 1 + steps), -1)
        for row, history in enumerate(histories):
            bought[row, 1 + steps - len(history) :] = self._numbers[history]
        truth = np.zeros((len(histories), shop.items))
        for kind in np.unique(kinds).tolist():
            rows = np.flatnonzero(kinds == kind)
            candidates, weights, shelf = world.rule(kind, bought[rows])
            shelves, open_ = world.shelves(kind), 1.0 - weights.sum(axis=1, keepdims=True)
            firm = 1.0 - shop.noise - shop.stray
            truth[rows] = shop.stray * world.popularity + shop.noise * shelves[0] + firm * open_ * shelves[shelf]
            np.add.at(truth, (rows[:, None], candidates), firm * weights)
        return truth[:, self._numbers[1:]]


def ceiling(store: Store, part: Part = "test", exclude_seen: bool = False) -> dict[str, dict[str, dict[str, float]]]:
    """The best metrics that any ranking can reach on the leave-one-out targets of a simulated store.

    ``expected`` ranks items by their true probability and takes the metrics' expectation under it, so it is exact and
    nothing beats it on average; ``realised`` is what the same ranking scores on the targets that were drawn.

    Args:
        store: A store written by `simulate`.
        part: "test" (each user's last item), or another one (the item before, of all users).
        exclude_seen: Items of the history are not ranked and count as missed.

    Returns:
        ``{"expected" | "realised": {"all" | kind: {"hr@5": ..., "ndcg@10": ..., "mrr@20": ...}}}``.

    Raises:
        DataError: The store was not simulated.
    """
    oracle = Oracle(store)
    ends = store.offsets[1:] - (1 if part == "test" else 2)
    sums = {"expected": [], "realised": []}
    for start in range(0, store.num_users, _CHUNK):
        users = np.arange(start, min(start + _CHUNK, store.num_users))
        histories = [store.items[store.offsets[u] : ends[u]] for u in users]
        truth = oracle.distribution(oracle.kinds[users], histories)
        score = truth.copy()
        if exclude_seen:
            for row, history in enumerate(histories):
                score[row, history - 1] = -1.0
        best = np.argsort(-score, axis=1, kind="stable")[:, : max(_CUTS)]
        allowed = np.take_along_axis(score, best, axis=1) >= 0
        drawn = best == (store.items[ends[users]] - 1)[:, None]
        sums["expected"].append(_metrics(np.take_along_axis(truth, best, axis=1) * allowed))
        sums["realised"].append(_metrics((drawn & allowed).astype(float)))
    return {name: _by_kind(np.concatenate(rows), oracle.kinds) for name, rows in sums.items()}


def oracle_saving(store: Store, small_cost: float, full_cost: float, easy: Sequence[str] = ("habit",)) -> float:
    """What a router saves that sends the users of the easy kinds, and only them, to the small model.

    Args:
        store: A store written by `simulate`.
        small_cost: Cost of the small model for one user, in any unit.
        full_cost: Cost of the full model for one user, in the same unit.
        easy: The kinds for which the small model is enough.

    Returns:
        The saved share of the cost of sending everyone to the full model.
    """
    kinds = store.users_table()["kind"]
    share = float(kinds.is_in(list(easy)).mean())  # pyright: ignore[reportArgumentType]
    return share * (1.0 - small_cost / full_cost)


def _metrics(hits: np.ndarray) -> np.ndarray:
    """HR, NDCG, MRR at each cut, [B, 3 * cuts], from the (expected) hits at each rank, [B, max cut]."""
    ranks = np.arange(1, hits.shape[1] + 1)
    gains = np.stack([hits, hits / np.log2(ranks + 1), hits / ranks], axis=1)
    return np.concatenate([gains[:, :, :cut].sum(axis=2) for cut in _CUTS], axis=1)


def _by_kind(values: np.ndarray, kinds: np.ndarray) -> dict[str, dict[str, float]]:
    """Mean metrics [users, 3 * cuts] over all users and over each kind that has any."""
    labels = [f"{name}@{cut}" for cut in _CUTS for name in ("hr", "ndcg", "mrr")]
    groups = {"all": values} | {name: values[kinds == k] for k, name in enumerate(KINDS)}
    return {name: dict(zip(labels, v.mean(axis=0).tolist(), strict=True)) for name, v in groups.items() if len(v)}
