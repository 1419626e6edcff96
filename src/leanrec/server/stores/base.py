"""What a server asks of whatever keeps the histories of users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

KEPT = 4096
"""Newest items of a user that are kept."""
MOST_CALLS = 4096
"""Calls that may wait for a store; more are refused at once."""
UNKNOWN = "whether the events were stored is not known"
NOTHING = "nothing was stored"


class Unavailable(Exception):
    """The store did not do what was asked.

    Args:
        inside: Why, for the log; it may name hosts and files.
        reason: Why, for the client; it goes on from "the store of sessions".
        lasts: Whether the same request would fail again, however long one waits.
    """

    def __init__(self, inside: str, reason: str = "cannot be reached", lasts: bool = False) -> None:
        super().__init__(inside)
        self.reason, self.lasts = reason, lasts


def foreign(user: str, inside: object) -> Unavailable:
    """What is found under a user is no history: another program, or another version, wrote it."""
    return Unavailable(
        f"expected a history of {user!r:.60}, got something else: {inside}",
        f"has something else than a history for {user!r:.60}, which is left as it is; DELETE /v1/events?user= drops it",
        lasts=True,
    )


def crowded() -> Unavailable:
    """Too many wait already."""
    return Unavailable(
        f"expected at most {MOST_CALLS} calls that wait, got more",
        f"has {MOST_CALLS} calls that wait already; {NOTHING}",
    )


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a user.

    Attributes:
        events: All in all.
        items: Keys of the newest `KEPT`, oldest first.
    """

    events: int
    items: list[str]


class HistoryStore(Protocol):
    """Histories by user.

    Every method but `close` takes ``within``, the seconds that it may take, and raises `Unavailable` when they are over, or where
    the store cannot be reached or holds something else.
    """

    async def append(self, user: str, items: list[str], within: float) -> int:
        """Add the newest items, all or none; the user's events all in all. They are kept when this returns."""
        ...

    async def past(self, user: str, within: float) -> Past:
        """What is known of a user; no events for one that is not."""
        ...

    async def forget(self, user: str, within: float) -> None:
        """Drop what is known of a user."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...
