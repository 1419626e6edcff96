"""The training events of a store, read some users at a time: what counting passes see."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from leanrec.core.training_events import EventsPart, TrainingEvents
from leanrec.data.split import Split
from leanrec.data.store import Store

_AT_ONCE = 2**22
"""Events of a part, but for a user who has more."""


class TrainingLog(TrainingEvents):
    """The training part of a store, in parts of about so many events.

    Args:
        store: The interactions.
        split: Whose training part is read.
        at_once: Events of a part, about.
    """

    def __init__(self, store: Store, split: Split, at_once: int = _AT_ONCE) -> None:
        self.store, self.end, self.at_once = store, store.place(split.train_end), at_once
        self.num_items = store.num_items
        self.num_events = int((self.end - store.offsets[:-1]).sum())
        self._times = store.times
        self.newest = None
        if self._times is not None:
            self.newest = max((int(part.times.max()) for part in self.parts() if part.times is not None), default=None)

    def parts(self) -> Iterator[EventsPart]:
        starts, first = self.store.offsets, 0
        while first < self.store.num_users:
            last = max(first + 1, int(np.searchsorted(starts, starts[first] + self.at_once, side="right")) - 1)
            yield self._part(first, last)
            first = last

    def _part(self, first: int, last: int) -> EventsPart:
        """The training events of the users [first, last)."""
        begin, end = self.store.offsets[first], self.store.offsets[last]
        users = np.repeat(np.arange(first, last), np.diff(self.store.offsets[first : last + 1]))
        inside = np.arange(begin, end) < self.end[users]
        times = None if self._times is None else np.asarray(self._times[begin:end])[inside]
        return EventsPart(np.asarray(self.store.items[begin:end])[inside], users[inside], times)


def trained_items(store: Store, split: Split) -> np.ndarray:
    """bool [N + 1], whether each item has a training event; 0 is none."""
    found = np.zeros(store.num_items + 1, bool)
    for part in TrainingLog(store, split).parts():
        found[part.items] = True
    return found
