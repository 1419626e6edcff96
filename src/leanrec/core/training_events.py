"""What may be counted before the first step: the training events of all users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from leanrec.core.ranges import Whole


class TrainingEvents(Protocol):
    """The training parts of all users' histories, read from the store some users at a time. Nothing of validation or test is in it.

    Attributes:
        num_items: N.
        num_events: How many there are.
        newest: Time of the newest of all, in the unit of the log; None for a log without times.
    """

    num_items: int
    num_events: int
    newest: int | None

    def parts(self) -> Iterator[EventsPart]:
        """One pass, in the order of users."""
        ...


class EventsPart(NamedTuple):
    """Events of some users, one user after the other, oldest first.

    Attributes:
        items: int32 [E], item ids.
        users: int64 [E], ascending.
        times: int64 [E], in the unit of the log; None for a log without times.
        new: bool [E], which of them are to be counted, where the others have been and are there for what came before; None for all.
    """

    items: np.ndarray
    users: np.ndarray
    times: np.ndarray | None
    new: np.ndarray | None = None


class Counted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events were counted: those of each user until a time, without the newest ones of these.

    Attributes:
        until: Time of the newest event of the log, in its unit.
        left_out: Newest events of each user until then that are not counted; of users who have no more than these, all are.
    """

    until: int
    left_out: Whole = 0


def events_of(events: TrainingEvents, since: int | None = None) -> np.ndarray:
    """int64 [N + 1], how many events each item has, those before a time left out."""
    counts = np.zeros(events.num_items + 1, np.int64)
    for part in events.parts():
        items = part.items if since is None or part.times is None else part.items[part.times >= since]
        counts += np.bincount(items, minlength=len(counts))
    return counts


def popularity(events: TrainingEvents, since: int | None = None) -> np.ndarray:
    """float64 [N], the logarithm of each item's share of these events, as if each had one more."""
    counts = events_of(events, since)[1:]
    return np.log((counts + 1) / (counts.sum() + events.num_items))
