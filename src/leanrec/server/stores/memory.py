"""Histories in the memory of this process: lost when it ends, and not shared with others."""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import islice

from leanrec.server.stores.base import KEPT, NOTES, HistoryStore, Note, Noting, Past

_MOST_ITEMS = 5_000_000
"""Items of all users; about 60 bytes each, unless keys are long."""


class MemoryStore(HistoryStore):
    """Keeps histories in a dictionary. While there are too many items, the users who were seen last the longest ago are forgotten.

    Args:
        most: Items of all users.
    """

    def __init__(self, most: int = _MOST_ITEMS) -> None:
        self.most, self.held = most, 0
        self._users: OrderedDict[str, Past] = OrderedDict()
        self._notes: deque[tuple[int, Note]] = deque()

    def __len__(self) -> int:
        return len(self._users)

    async def append(self, user: str, items: list[str], within: float, noting: Noting | None = None) -> int:
        before = self._users.pop(user, None) or Past(0, [])
        after = Past(before.events + len(items), [*before.items, *items][-KEPT:])
        self._users[user] = after
        self.held += len(after.items) - len(before.items)
        while self.held > self.most and len(self._users) > 1:
            self.held -= len(self._users.popitem(last=False)[1].items)
        if noting is not None:
            number = self._notes[-1][0] + 1 if self._notes else 1
            self._notes.append((number, noting.note(after.items, len(items))))
            while len(self._notes) > noting.kept:
                self._notes.popleft()
        return after.events

    async def notes(self, after: str, within: float) -> list[tuple[str, Note]]:
        if not self._notes:
            return []
        skipped = max(0, int(after or 0) + 1 - self._notes[0][0])
        return [(str(number), note) for number, note in islice(self._notes, skipped, skipped + NOTES)]

    async def past(self, user: str, within: float) -> Past:
        return self._users.get(user) or Past(0, [])

    async def forget(self, user: str, within: float) -> None:
        self.held -= len((self._users.pop(user, None) or Past(0, [])).items)

    async def close(self) -> None:
        pass
