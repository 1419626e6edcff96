"""The contract of a store of users' histories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

KEPT = 4096
"""Newest items of a user that are kept."""
MOST_CALLS = 4096
"""Most calls that wait for a store; more are refused at once."""
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


class HistoryStore(Protocol):
    """Histories by user.

    Every method but `close` takes ``within``, the seconds that it may take, and raises `Unavailable` when they are over, or where
    the store cannot be reached or holds something else.
    """

    async def append(self, user: str, items: list[str], within: float) -> int:
        """Store the newest items, all or none; return the number of all events of the user once they are stored."""
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
