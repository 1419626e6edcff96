"""Count which item follows which, in passes over events, in bounded memory, and add newer events to what was counted.

A pair of events at distance d counts 1 / d, for d up to a reach: in the row of the earlier item for the later one, and a share of
it the other way round. Pairs are numbers, (item, follower, kind), that are sorted and counted; a pass holds those of some items
only, so many events take more passes and not more memory.

Rows are cut to their strongest followers. What is cut off is forgotten: a follower that comes back later begins with nothing, so
its count is too small by at most the least count that its row kept when it was cut. Totals stay exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from leanrec.core.training_events import EventsPart, TrainingEvents, events_of

PAIRS_HELD = 2**24
"""Pairs that are held at once; with all that is made of them, about 64 bytes each."""


class Pairs(NamedTuple):
    """Which pairs of events count, and how much.

    Attributes:
        reach: Largest distance d.
        backward: What a pair counts in the row of its later item, as a share of what it counts in the row of the earlier one.
    """

    reach: int
    backward: float = 0.0

    def kinds(self) -> np.ndarray:
        """What a pair counts by its kind: one over its distance, and the same the other way round where that counts."""
        forward = 1.0 / np.arange(1, self.reach + 1)
        return np.concatenate([forward, self.backward * forward]) if self.backward else forward


class Counts(NamedTuple):
    """Rows of followers.

    Attributes:
        ids: int32 [N + 1, R], the strongest followers of each item, strongest first; 0 where there are fewer.
        counts: float32 [N + 1, R], how much each counts.
        totals: float32 [N + 1], the sum over all followers, also those that were cut off.
    """

    ids: np.ndarray
    counts: np.ndarray
    totals: np.ndarray

    def faded(self, share: float) -> Counts:
        """The same with counts of which this share is left."""
        return Counts(self.ids.copy(), self.counts * np.float32(share), self.totals * np.float32(share))


def no_counts(items: int, rows: int) -> Counts:
    """Rows of R followers of N items before anything is counted."""
    shape = (items + 1, rows)
    return Counts(np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.zeros(items + 1, np.float32))


def add_followers(counts: Counts, events: TrainingEvents, pairs: Pairs, held: int = PAIRS_HELD) -> None:
    """Add events to counts, which are changed.

    Args:
        counts: To which they are added.
        events: What is counted.
        pairs: Which of them.
        held: Pairs that are held at once, about.
    """
    n, of_item = events.num_items, events_of(events)
    kinds, kept = pairs.kinds(), np.count_nonzero(counts.ids, 1) * (of_item > 0)
    for first, last in _ranges(of_item * len(kinds) + kept, held):
        keys = [_keys(part, n, pairs.reach, len(kinds), first, last) for part in events.parts()]
        merged = np.concatenate(keys) if keys else np.zeros(0, np.int64)
        keys.clear()
        merged.sort()
        _keep(counts, merged, n, kinds)


def _ranges(pairs: np.ndarray, held: int) -> list[tuple[int, int]]:
    """Cut items 1 to N into ranges [first, last) of about so many pairs, an item of more in one of its own.

    Args:
        pairs: int64 [N + 1], at most how many begin with each item.
        held: Pairs of a range.
    """
    ends = pairs.cumsum()
    ranges: list[tuple[int, int]] = []
    first = 1
    while first < len(pairs):
        last = max(first + 1, int(np.searchsorted(ends, ends[first - 1] + held, side="right")))
        ranges.append((first, last))
        first = last
    return ranges


def _keys(part: EventsPart, n: int, reach: int, kinds: int, first: int, last: int) -> np.ndarray:
    """int64, the pairs in the rows of a range of items: ((item (n + 1)) + follower) kinds + kind."""
    items = part.items.astype(np.int64)
    keys: list[np.ndarray] = []
    for d in range(1, min(reach, len(items) - 1) + 1):
        counts = part.users[:-d] == part.users[d:]
        if part.new is not None:
            counts &= part.new[d:]
        ways = [(items[:-d], items[d:], d - 1), (items[d:], items[:-d], reach + d - 1)]
        for item, follower, kind in ways[: kinds // reach]:
            inside = counts & (item >= first) & (item < last)
            keys.append((item[inside] * (n + 1) + follower[inside]) * kinds + kind)
    return np.concatenate(keys) if keys else np.zeros(0, np.int64)


def _keep(found: Counts, keys: np.ndarray, n: int, kinds: np.ndarray) -> None:
    """Add the pairs of sorted keys to the rows of the items that they begin with."""
    if not len(keys):
        return
    pairs, kind = np.divmod(keys, len(kinds))
    starts = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))
    pairs, counts = pairs[starts], np.add.reduceat(kinds[kind], starts)
    found.totals[:] += np.bincount(pairs // (n + 1), counts, n + 1).astype(np.float32)
    changed = np.unique(pairs // (n + 1))
    pairs, counts = _with_kept(found, changed, pairs, counts, n)
    item, follower = np.divmod(pairs, n + 1)
    order = np.lexsort((follower, -counts, item))
    item, follower, counts = item[order], follower[order], counts[order]
    begins = np.flatnonzero(np.concatenate([[True], item[1:] != item[:-1]]))
    rank = np.arange(len(item)) - np.repeat(begins, np.diff(np.append(begins, len(item))))
    kept = rank < found.ids.shape[1]
    found.ids[changed], found.counts[changed] = 0, 0
    found.ids[item[kept], rank[kept]] = follower[kept]
    found.counts[item[kept], rank[kept]] = counts[kept]


def _with_kept(
    found: Counts, items: np.ndarray, pairs: np.ndarray, counts: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs, ascending, and their counts, with those that the rows of ``items`` hold already."""
    ids = found.ids[items]
    at = np.nonzero(ids)
    if not len(at[0]):
        return pairs, counts
    kept = items[at[0]] * (n + 1) + ids[at]
    pairs, where = np.unique(np.concatenate([kept, pairs]), return_inverse=True)
    return pairs, np.bincount(where, np.concatenate([found.counts[items][at], counts]))
