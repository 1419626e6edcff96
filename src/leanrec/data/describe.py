"""Statistics of a store, as plain data."""

from __future__ import annotations

from typing import Any

import numpy as np

from leanrec.core.errors import DataError
from leanrec.data.events import Events
from leanrec.data.store import Store

NEVER_TWICE = (
    "no user has an item twice, so one that was seen is never the right answer: training, evaluate, report and slim "
    "leave seen items out by default; recommend and serve with --exclude-seen, or exclude_seen in a request"
)
_BOUNDS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


def describe(store: Store) -> dict[str, Any]:
    """Sizes, history lengths, popularity, time range, repeats, and what the import dropped and noted.

    Shares are between 0 and 1. ``density`` is the share of user-item pairs that occur. ``histogram`` counts users by
    length in half-open ranges. ``repeat_share`` is over all events: the user had the item before.
    ``advice`` says what follows where nobody ever does.
    ``immediate_repeat_share`` is over steps: the item equals the one before. Times are in the store's unit.
    """
    lengths = np.diff(store.offsets)
    pairs, immediate = _repeats(store)
    return {
        "name": store.meta.name,
        "source": store.meta.source,
        "users": store.num_users,
        "items": store.num_items,
        "events": store.num_events,
        "density": pairs / (store.num_users * store.num_items),
        "length": {
            "mean": float(lengths.mean()),
            "median": float(np.median(lengths)),
            "p90": float(np.quantile(lengths, 0.9)),
            "max": int(lengths.max()),
            "histogram": _histogram(lengths),
        },
        "short_users": int((lengths < 3).sum()),
        "popularity": _popularity(store),
        "time": describe_times(store),
        "repeat_share": 1 - pairs / store.num_events,
        "advice": NEVER_TWICE if pairs == store.num_events else "",
        "immediate_repeat_share": immediate / max(store.num_events - store.num_users, 1),
        "dropped": dict(store.meta.dropped),
        "notes": list(store.meta.notes),
    }


def describe_times(store: Store) -> dict[str, int] | None:
    """The first and the last time, in the store's unit; None if it has none."""
    times = store.times
    return None if times is None else {"first": int(times.min()), "last": int(times.max())}


def gained(store: Store, since: int) -> dict[str, int]:
    """What a store gained from a time on, in its unit: events, users and items of them, and how many of these were new then.

    Raises:
        DataError: It has no times.
    """
    if store.times is None:
        raise DataError(f"expected a store with times to tell what it gained, got none in {store.path}")
    was_user, was_item = np.zeros(store.num_users, bool), np.zeros(store.num_items + 1, bool)
    has_user, has_item, events = was_user.copy(), was_item.copy(), 0
    for where, users in Events(store.items, None, store.offsets).chunks():
        late, items = np.asarray(store.times[where]) >= since, np.asarray(store.items[where])
        events += int(late.sum())
        for chosen, user, item in ((late, has_user, has_item), (~late, was_user, was_item)):
            user[users[chosen]] = item[items[chosen]] = True
    return {
        "from": since,
        "events": events,
        "users": int(has_user.sum()),
        "new_users": int((has_user & ~was_user).sum()),
        "items": int(has_item.sum()),
        "new_items": int((has_item & ~was_item).sum()),
    }


def never_twice(store: Store) -> bool:
    """Whether no user has an item twice."""
    return _repeats(store)[0] == store.num_events


def _repeats(store: Store) -> tuple[int, int]:
    """Distinct user-item pairs, and events that equal the one before."""
    pairs = immediate = 0
    for where, users in Events(store.items, None, store.offsets).chunks():
        items = store.items[where].astype(np.int64)
        pairs += len(np.unique(users * (store.num_items + 1) + items))
        immediate += int(((np.diff(items) == 0) & (np.diff(users) == 0)).sum())
    return pairs, immediate


def _histogram(lengths: np.ndarray) -> list[dict[str, int | None]]:
    """Users per range of lengths; ranges above the longest history are left out."""
    bounds = [bound for bound in _BOUNDS if bound <= lengths.max()]
    counts, _ = np.histogram(lengths, [*bounds, np.inf])
    return [
        {"from": low, "below": high, "users": int(users)}
        for low, high, users in zip(bounds, [*bounds[1:], None], counts, strict=True)
    ]


def _popularity(store: Store) -> dict[str, float]:
    """How unevenly events fall on items: Gini coefficient (0 even, 1 all on one) and shares of the most popular."""
    counts = np.array(store.catalog.counts, np.float64)  # descending
    rank = np.arange(len(counts), 0, -1)
    gini = (2 * (rank * counts).sum() / counts.sum() - len(counts) - 1) / len(counts)
    top = {percent: counts[: max(1, round(len(counts) * percent / 100))].sum() / counts.sum() for percent in (1, 10)}
    return {"gini": float(gini), "top_1_percent": float(top[1]), "top_10_percent": float(top[10])}
