"""The contract of a store of users' histories."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple, Protocol

KEPT = 4096
"""Newest items of a user that are kept."""
MOST_CALLS = 4096
"""Most calls that wait for a store; more are refused at once."""
NOTED, NOTES = 256, 5000
"""Most new items of a note, and most notes of a call."""
UNKNOWN = "whether the events were stored is not known"
NOTHING = "nothing was stored"


class Unavailable(Exception):
    """The store did not do what was asked.

    Args:
        inside: Why, for the log; may name hosts and files.
        reason: Why, for the client; continues "the store of sessions".
        lasts: Whether the same request would fail again however long the client waits.
    """

    def __init__(self, inside: str, reason: str = "cannot be reached", lasts: bool = False) -> None:
        super().__init__(inside)
        self.reason, self.lasts = reason, lasts


def foreign(user: str, inside: object) -> Unavailable:
    """The error of a user whose record is no history, because another program or version wrote it."""
    return Unavailable(
        f"expected a history of {user!r:.60}, got something else: {inside}",
        f"has something else than a history for {user!r:.60}, which is left as it is; DELETE /v1/events?user= drops it",
        lasts=True,
    )


def no_notes(inside: object) -> Unavailable:
    """The error of notes that are none, because another program or version wrote them."""
    return Unavailable(
        f"expected notes of events, got something else: {inside}",
        f"has something else in the place of notes of events; {NOTHING}",
        lasts=True,
    )


def crowded() -> Unavailable:
    """The error when too many calls wait already."""
    return Unavailable(
        f"expected at most {MOST_CALLS} calls that wait, got more",
        f"has {MOST_CALLS} calls that wait already; {NOTHING}",
    )


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a user.

    Attributes:
        events: Number of all events, also of those that are no longer kept.
        items: The newest `KEPT`, oldest first, as text; see `server.kept`.
    """

    events: int
    items: list[str]


class Noting(NamedTuple):
    """That events are also noted for those who learn from them.

    Attributes:
        before: How many of the user's items before them are noted with them.
        kept: Newest notes that are kept.
    """

    before: int
    kept: int

    def note(self, items: list[str], new: int) -> Note:
        """What is noted now.

        Args:
            items: Of the user, the newest ones last.
            new: How many of these are new.
        """
        new = min(new, NOTED)
        return Note(time.time(), items[-(self.before + new) :], new)


class Note(NamedTuple):
    """Events of a request and the items before them. Whose they are is not noted.

    Attributes:
        at: Seconds since 1970.
        items: As text; see `server.kept`.
        new: How many of them, the last ones, are new.
    """

    at: float
    items: list[str]
    new: int


class HistoryStore(Protocol):
    """Histories by user, and notes of the newest events of all.

    Every method but `close` takes ``within``, the seconds that it may take, and raises `Unavailable` when they are over, or where
    the store cannot be reached or holds something else.
    """

    async def append(self, user: str, items: list[str], within: float, noting: Noting | None = None) -> int:
        """Store the newest items, all or none; return the number of all events of the user once they are stored.

        With ``noting`` they are noted in the same step.
        """
        ...

    async def notes(self, after: str, within: float) -> list[tuple[str, Note]]:
        """At most `NOTES` notes by their marks, the oldest first, that came after the one with a mark; "" is before all."""
        ...

    async def past(self, user: str, within: float) -> Past:
        """What is known of a user; no events for an unknown one."""
        ...

    async def forget(self, user: str, within: float) -> None:
        """Drop what is known of a user."""
        ...

    async def close(self) -> None:
        """Close it; nothing is asked of it afterwards."""
        ...
