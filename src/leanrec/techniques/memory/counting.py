"""Count which item follows which, in passes over the training events, in bounded memory.

A pair of events at distance d counts 1 / d, for d up to a reach. Pairs are numbers, (item, follower, d), that are sorted and
counted; a pass holds those of some items only, so many events take more passes and not more memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from leanrec.core.training_events import EventsPart, TrainingEvents

PAIRS_HELD = 2**26
"""Pairs that are held at once, 8 bytes each, and as much again while they are sorted."""


class Counts(NamedTuple):
    """Rows of followers.

    Attributes:
        ids: int32 [N + 1, R], the strongest followers of each item, strongest first; 0 where there are fewer.
        counts: float32 [N + 1, R], how much each counts.
        totals: float32 [N + 1], the sum over all followers, also those that were cut off.
        events: float32 [N + 1], events of each item.
    """

    ids: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    events: np.ndarray


def count_followers(events: TrainingEvents, reach: int, rows: int, held: int = PAIRS_HELD) -> Counts:
    """The followers of every item.

    Args:
        events: What is counted.
        reach: Largest distance d of a pair.
        rows: Followers R that are kept of an item.
        held: Pairs that are held at once, about.
    """
    n, of_item = events.num_items, _events_of(events)
    found = Counts(
        np.zeros((n + 1, rows), np.int32),
        np.zeros((n + 1, rows), np.float32),
        np.zeros(n + 1, np.float32),
        of_item.astype(np.float32),
    )
    for first, last in _ranges(of_item * reach, held):
        keys = [_pairs(part, n, reach, first, last) for part in events.parts()]
        merged = np.concatenate(keys) if keys else np.zeros(0, np.int64)
        keys.clear()
        merged.sort()
        _keep(found, merged, n, reach, rows)
    return found


def _events_of(events: TrainingEvents) -> np.ndarray:
    """int64 [N + 1], how many events each item has."""
    count = np.zeros(events.num_items + 1, np.int64)
    for part in events.parts():
        count += np.bincount(part.items, minlength=len(count))
    return count


def _ranges(pairs: np.ndarray, held: int) -> list[tuple[int, int]]:
    """Cut items 1 to N into ranges [first, last) of about so many pairs, an item of more in one of its own.

    Args:
        pairs: int64 [N + 1], at most how many begin with each item.
        held: Pairs of a range.
    """
    ends = pairs.cumsum()
    ranges, first = [], 1
    while first < len(pairs):
        last = max(first + 1, int(np.searchsorted(ends, ends[first - 1] + held, side="right")))
        ranges.append((first, last))
        first = last
    return ranges


def _pairs(part: EventsPart, n: int, reach: int, first: int, last: int) -> np.ndarray:
    """Keys int64 of the pairs that begin with the items of a range: ((item (n + 1)) + follower) reach + d - 1."""
    items, keys = part.items.astype(np.int64), []
    for d in range(1, min(reach, len(items) - 1) + 1):
        before, after = items[:-d], items[d:]
        inside = (part.users[:-d] == part.users[d:]) & (before >= first) & (before < last)
        keys.append((before[inside] * (n + 1) + after[inside]) * reach + d - 1)
    return np.concatenate(keys) if keys else np.zeros(0, np.int64)


def _keep(found: Counts, keys: np.ndarray, n: int, reach: int, rows: int) -> None:
    """Fill in the rows of the items that sorted keys begin with."""
    if not len(keys):
        return
    pairs, distance = np.divmod(keys, reach)
    starts = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))
    counts = np.add.reduceat(1.0 / (1 + distance), starts)
    item, follower = np.divmod(pairs[starts], n + 1)
    found.totals[:] += np.bincount(item, counts, n + 1).astype(np.float32)
    order = np.lexsort((follower, -counts, item))
    item, follower, counts = item[order], follower[order], counts[order]
    begins = np.flatnonzero(np.concatenate([[True], item[1:] != item[:-1]]))
    rank = np.arange(len(item)) - np.repeat(begins, np.diff(np.append(begins, len(item))))
    kept = rank < rows
    found.ids[item[kept], rank[kept]] = follower[kept]
    found.counts[item[kept], rank[kept]] = counts[kept]
