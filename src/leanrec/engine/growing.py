"""A table of evidence that grows by events while it is read, in bounded memory.

What events add is kept in rows beside the table and merged into it exactly: an answer is that of a table which had counted these
events, too, each worth half after every half-life. The fading is one factor for all rows, so that nothing is rewritten as time
passes: a pair is kept as share * 2^(at / half-life), and read times 2^(-now / half-life).

Where there are too many rows the one with the least total leaves, and where a row is full its least entry. Totals stay exact.

Shape letters: B users, W newest items, R items of a row of the table, E further items of a row, P pairs, S rows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from leanrec.core.plain import FULL, PAD, Route
from leanrec.engine.additions import LEAST_MASS, Added, EvidenceTable
from leanrec.engine.batches import Histories

_FIRST_ROWS = 256
_RISES = 40.0
"""Half-lives after which what is kept is scaled anew, long before float32 ends."""


class Followed(NamedTuple):
    """What pairs of events of users count (`core.followers.Pairs`).

    Attributes:
        items: int64 [P], in whose rows they count.
        followers: int64 [P], for which items.
        shares: float64 [P], how much, when they are new.
        at: float64 [P], when they happened, in seconds since 1970.
    """

    items: np.ndarray
    followers: np.ndarray
    shares: np.ndarray
    at: np.ndarray


class Growing:
    """A table and what events add to it. May be called from several threads at once.

    Args:
        table: Whose pairs have a reach above 0.
        half_life: Seconds.
        rows: Most rows beside those of the table.
        entries: Most items of such a row beside those that the table's row has.
        clock: Tells seconds since 1970.

    Attributes:
        rows: Rows that are held.
        answers: Answers that were given.
        lifted: Those of them with an item to which events have added.
    """

    def __init__(
        self, table: EvidenceTable, half_life: float, rows: int, entries: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.table, self.half_life, self.most, self.clock = table, half_life, rows, clock
        self.rows = self.answers = self.lifted = 0
        self._kept, self._further = table.ids.shape[1], entries
        self._slots = np.zeros(len(table.ids), np.int32)
        self._lock, self._zero = threading.Lock(), clock()
        self._make(min(_FIRST_ROWS, rows))

    def _make(self, rows: int) -> None:
        """Row 0 is that of items without one."""
        self._items = np.zeros(rows + 1, np.int64)
        self._ids = np.zeros((rows + 1, self._further), np.int32)
        self._more = np.zeros((rows + 1, self._kept + self._further), np.float32)
        self._totals = np.zeros(rows + 1, np.float32)

    @property
    def entries(self) -> int:
        """Entries that events have added to."""
        with self._lock:
            return int(np.count_nonzero(self._more))

    @property
    def bytes(self) -> int:
        """Memory of the rows."""
        return sum(array.nbytes for array in (self._slots, self._items, self._ids, self._more, self._totals))

    def added(self, histories: Histories, route: Route = FULL) -> Added:
        """What the table and the events add for each history on a route."""
        table = self.table.on(route)
        read = table.read(histories)
        with self._lock:
            slots = self._slots[read]
            if not slots.any():
                return table.summed(read, *table.entries(read))
            fade = np.float32(2.0 ** ((self._zero - self.clock()) / self.half_life))
            further, more, gained = self._ids[slots], self._more[slots], self._totals[slots] * fade
        kept, power = self._kept, np.float32(table.power)
        ids, mass = (np.empty((*read.shape, kept + self._further + 1), kind) for kind in (np.int64, np.float32))
        ids[..., :kept], ids[..., kept:-1], ids[..., -1] = table.ids[read], further, read
        total = table.totals[read]
        grown = np.maximum(total + gained, LEAST_MASS)
        mass[..., :kept] = table.shares[read] * ((total / grown) ** power)[..., None]
        mass[..., kept:-1] = 0
        mass[..., :-1] += more * (fade * grown**-power)[..., None]
        mass[..., :-1] *= table.window[:, None]
        mass[..., -1] = (read != PAD) * table.own
        learned = np.where(more > 0, ids[..., :-1], PAD).reshape(len(read), -1)
        return table.summed(read, ids, mass)._replace(learned=learned)

    def tally(self, best: np.ndarray, added: Added) -> None:
        """Take note of answers, int64 [B, k]."""
        lifted = 0
        if added.learned is not None:
            row = np.arange(len(best))[:, None] * len(self.table.ids)
            named = np.where(added.learned > 0, added.learned + row, -1)
            lifted = int(np.isin(best + row, named).any(1).sum())
        with self._lock:
            self.answers += len(best)
            self.lifted += lifted

    def learn(self, pairs: Followed) -> None:
        """Add pairs of events."""
        if not len(pairs.items):
            return
        order = np.argsort(pairs.items, kind="stable")
        rows, followers = pairs.items[order], pairs.followers[order]
        with self._lock:
            self._rise(float(pairs.at.max()))
            shares = pairs.shares[order] * 2.0 ** ((pairs.at[order] - self._zero) / self.half_life)
            items, starts = np.unique(rows, return_index=True)
            for item, start, end in zip(items.tolist(), starts, [*starts[1:], len(rows)], strict=True):
                self._add(item, followers[start:end], shares[start:end])

    def _rise(self, newest: float) -> None:
        """Scale what is kept, so that the shares of events at this time are small numbers."""
        if newest - self._zero > _RISES * self.half_life:
            factor = np.float32(2.0 ** ((self._zero - newest) / self.half_life))
            self._more *= factor
            self._totals *= factor
            self._zero = newest

    def _add(self, item: int, followers: np.ndarray, shares: np.ndarray) -> None:
        slot = self._slot(item)
        self._totals[slot] += shares.sum()
        followers, where = np.unique(followers, return_inverse=True)
        values = np.bincount(where, shares) * self.table.worth[followers]
        row = np.concatenate([self.table.ids[item], self._ids[slot]])
        there = followers[:, None] == row
        known = there.any(1)
        self._more[slot, there[known].argmax(1)] += values[known]
        if not known.all():
            ids = np.concatenate([self._ids[slot], followers[~known]])
            more = np.concatenate([self._more[slot, self._kept :], values[~known]])
            strongest = np.argsort(-more, kind="stable")[: self._further]
            self._ids[slot], self._more[slot, self._kept :] = ids[strongest], more[strongest]

    def _slot(self, item: int) -> int:
        """The row of an item, which is a new one if it has none."""
        slot = int(self._slots[item])
        if slot:
            return slot
        if self.rows < self.most:
            self.rows += 1
            slot = self.rows
            if slot == len(self._items):
                self._enlarge()
        else:
            slot = 1 + int(self._totals[1:].argmin())
            self._slots[self._items[slot]] = 0
            self._ids[slot], self._more[slot], self._totals[slot] = 0, 0, 0
        self._slots[item], self._items[slot] = slot, item
        return slot

    def _enlarge(self) -> None:
        before = (self._items, self._ids, self._more, self._totals)
        self._make(min(2 * len(self._items), self.most))
        for old, new in zip(before, (self._items, self._ids, self._more, self._totals), strict=True):
            new[: len(old)] = old
