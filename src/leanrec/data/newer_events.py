"""The events of a store that were not counted yet, with the histories that they continue, read some users at a time.

Shape letters: U users, E events of a part.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from leanrec.core.errors import DataError
from leanrec.core.plain import Catalog
from leanrec.core.training_events import Counted, EventsPart, TrainingEvents
from leanrec.data.mapped import mapped
from leanrec.data.split import count_before
from leanrec.data.store import Store

_AT_ONCE = 2**22
"""Events of a part, about, but for a user who has more."""


class NewerEvents(TrainingEvents):
    """Users with events that were not counted: their whole histories, in a model's ids, and which of their events are new.

    Args:
        store: The interactions, with times.
        catalog: The items of the model; events of others are skipped.
        counted: Which events were counted.
        since: If given, older events are not counted either; in the unit of the store.

    Attributes:
        num_events: New events of known items.
        num_users: Users who have some.
        skipped: New events of unknown items.
        newest: Time of the newest event.

    Raises:
        DataError: The store has no times, or no known item.
    """

    def __init__(self, store: Store, catalog: Catalog, counted: Counted, since: int | None = None) -> None:
        if store.times is None:
            raise DataError(
                f"expected a log with times, which say what is new, got none in {store.path}; import it with its time column"
            )
        self.newest, self.num_items = int(store.times.max()), len(catalog)
        later = counted.until + 1 if since is None else max(since, counted.until + 1)
        self.store = mapped(store, catalog)
        self.skipped = _since(store, later) - _since(self.store, later)
        self.begin = first_new(self.store, counted)
        if since is not None:
            self.begin = np.maximum(self.begin, _before(self.store, since))
        new = self.store.offsets[1:] - self.begin
        self.num_events, self.num_users = int(new.sum()), int(np.count_nonzero(new))

    def parts(self) -> Iterator[EventsPart]:
        users, lengths = np.flatnonzero(self.begin < self.store.offsets[1:]), np.diff(self.store.offsets)
        ends = np.cumsum(lengths[users])
        for some in np.split(users, np.searchsorted(ends, np.arange(_AT_ONCE, int(ends[-1:].sum()), _AT_ONCE))):
            owners, first = np.repeat(some, lengths[some]), np.cumsum(lengths[some]) - lengths[some]
            at = np.arange(len(owners)) + np.repeat(self.store.offsets[some] - first, lengths[some])
            yield EventsPart(self.store.items[at], owners, None, at >= self.begin[owners])


def first_new(store: Store, counted: Counted) -> np.ndarray:
    """int64 [U], where in a store with times each user's events begin that were not counted."""
    end = _before(store, counted.until + 1)
    left_out = np.where(end - store.offsets[:-1] > counted.left_out, counted.left_out, 0)
    return end - left_out


def _before(store: Store, limit: int) -> np.ndarray:
    """int64 [U], where each user's events begin that are not before a time."""
    assert store.times is not None
    return store.offsets[:-1] + count_before(store, store.times, limit)


def _since(store: Store, limit: int) -> int:
    """How many events of a store are not before a time."""
    return int((store.offsets[1:] - _before(store, limit)).sum())
