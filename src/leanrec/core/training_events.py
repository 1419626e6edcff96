"""What may be counted before the first step: the training events of all users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np


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
    """

    items: np.ndarray
    users: np.ndarray
    times: np.ndarray | None
