"""What a server asks of whatever keeps the histories of users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

KEPT = 4096
"""Newest items of a user that are kept."""


class Unavailable(Exception):
    """The store cannot be reached; nothing is known of what was asked last."""


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a user.

    Attributes:
        events: All in all.
        items: Keys of the newest `KEPT`, oldest first.
    """

    events: int
    items: list[str]


class Store(Protocol):
    """Histories by user. Every method raises `Unavailable` where the store cannot be reached."""

    async def append(self, user: str, items: list[str]) -> int:
        """Add the newest items, all or none; the user's events all in all. They are kept when this returns."""
        ...

    async def past(self, user: str) -> Past:
        """What is known of a user; no events for one that is not."""
        ...

    async def forget(self, user: str) -> None:
        """Drop what is known of a user."""
        ...

    async def check(self) -> None:
        """Do nothing but reach the store."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...
