"""What is added to the scores of few items, in NumPy; `core.evidence` says what it is."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np

from leanrec.core.followers import Counts, Pairs
from leanrec.core.plain import NO_NETWORK, PAD, Route
from leanrec.engine.batches import Histories

LEAST_MASS, _GATED = 1e-4, 5.0
"""As where the table was trained: smaller masses are rounding, and larger logarithms of the gain are cut."""
_SUMS_HELD = 2**18
"""Sums of mass, one for every item of every user, that are held at once: few enough for a processor's own memory."""

_local = threading.local()


class Added(NamedTuple):
    """What is added to the scores of few items. Entries may name an item several times; each then has all that is added to it.

    Attributes:
        ids: int64 [B, J]; 0 is none.
        values: float32 [B, J], at least 0.
        learned: int64 [B, F], items to which events have added since the model was opened (`engine.growing`); 0 is none.
    """

    ids: np.ndarray
    values: np.ndarray
    learned: np.ndarray | None = None

    def rows(self, some: slice) -> Added:
        """Those of some of the B users."""
        if some == slice(None):
            return self
        return Added(self.ids[some], self.values[some], None if self.learned is None else self.learned[some])


@dataclass(frozen=True, eq=False)
class EvidenceTable:
    """A table with a row of items for every item, and how rows are weighed; `core.evidence.Rows` as NumPy arrays."""

    ids: np.ndarray
    shares: np.ndarray
    window: np.ndarray
    own: np.ndarray
    gate: np.ndarray
    totals: np.ndarray
    worth: np.ndarray
    growth: np.ndarray
    alone: np.ndarray

    @classmethod
    def named(cls, arrays: Mapping[str, np.ndarray]) -> EvidenceTable:
        """Of arrays by name, as `arrays` gives them."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def arrays(self) -> dict[str, np.ndarray]:
        """What it is made of, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def pairs(self) -> Pairs:
        """Which pairs of events count; of reach 0 for rows that do not grow."""
        return Pairs(int(self.growth[0]), float(self.growth[2]))

    @property
    def power(self) -> float:
        """Of totals."""
        return float(self.growth[1])

    def counts(self) -> Counts:
        """What was counted, as a copy."""
        factor = _factors(self.totals, self.power)
        worth = self.worth[self.ids] * np.where(factor > 0, factor, 1)[:, None]
        return Counts(np.array(self.ids), self.shares / worth, np.array(self.totals))

    def recounted(self, counts: Counts) -> EvidenceTable:
        """The same table of other counts."""
        shares = counts.counts * self.worth[counts.ids] * _factors(counts.totals, self.power)[:, None]
        return replace(self, ids=counts.ids, totals=counts.totals, shares=shares)

    def on(self, route: Route) -> EvidenceTable:
        """The table as it is weighed on a route."""
        if route != NO_NETWORK:
            return self
        window, own = self.alone
        return replace(self, window=window, own=own, gate=np.zeros_like(self.gate))

    def added(self, histories: Histories) -> Added:
        """What the rows of the newest items of each history add."""
        read = self.read(histories)
        return self.summed(read, *self.entries(read))

    def read(self, histories: Histories) -> np.ndarray:
        """The newest items of histories, int64 [B, W], the newest first; 0 is none."""
        window, (users, longest) = len(self.window), histories.items.shape
        if longest >= window and histories.lengths.min() == longest:
            return histories.items[:, longest - window :][:, ::-1]
        newest = histories.lengths[:, None] - _steps(window)
        at = newest + np.arange(0, users * longest, longest)[:, None]
        return histories.items.reshape(-1).take(at, mode="clip") * (newest >= 0)

    def entries(self, read: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Items int64 and their masses float32, both [B, W, R + 1], of windows [B, W]; the last one is the item that is read."""
        mass = np.empty((*read.shape, self.ids.shape[1] + 1), np.float32)
        ids = np.empty(mass.shape, np.int64)
        np.multiply(self.shares[read], self.window[:, None], out=mass[..., :-1])
        np.multiply(read != PAD, self.own, out=mass[..., -1])
        ids[..., :-1], ids[..., -1] = self.ids[read], read
        return ids, mass

    def summed(self, read: np.ndarray, ids: np.ndarray, mass: np.ndarray) -> Added:
        """What entries of windows [B, W] add, of items and masses [B, W, J]."""
        ids, mass = ids.reshape(len(read), -1), mass.reshape(len(read), -1)
        values = self._summed(ids, mass)
        values += 1
        np.log(values, out=values)
        values *= self._gain(read, mass)
        return Added(ids, values)

    @cached_property
    def _same(self) -> np.ndarray | None:
        """a, [], of all windows, as where it was fitted and not trained; None where they differ."""
        return None if self.gate[1:].any() else np.exp(np.clip(self.gate[:1], -_GATED, _GATED))[0]

    def _gain(self, read: np.ndarray, mass: np.ndarray) -> np.ndarray:
        """a, [B, 1], of windows int64 [B, W] whose entries have ``mass`` [B, J]; [] where they are the same."""
        if self._same is not None:
            return self._same
        window, total = read.shape[1], mass.sum(1)
        features = np.empty((len(read), 4), np.float32)
        features[:, 0] = np.count_nonzero(read, 1) / window
        equal = (read[:, :, None] == read[:, None, :]) & (read[:, None, :] != PAD)
        features[:, 1] = np.count_nonzero(equal & _later(window), (1, 2)) / window
        features[:, 2], features[:, 3] = np.log1p(total), mass.max(1) / np.maximum(total, LEAST_MASS)
        logged = features @ self.gate[1:] + self.gate[0]
        return np.exp(np.minimum(np.maximum(logged, -_GATED), _GATED))[:, None]

    def _summed(self, ids: np.ndarray, mass: np.ndarray) -> np.ndarray:
        """For every entry [B, J] the mass of all entries that name its item."""
        size = len(self.ids)
        few = max(1, _SUMS_HELD // size)
        sums, total = _zeros(min(few, len(ids)) * size), np.empty(mass.shape, np.float32)
        for start in range(0, len(ids), few):
            some = slice(start, start + few)
            named = ids[some]
            keys = (named + np.arange(0, len(named) * size, size)[:, None]).reshape(-1)
            np.add.at(sums, keys, mass[some].reshape(-1))
            total[some] = sums[keys].reshape(named.shape)
            sums[keys] = 0
        return total


def _factors(totals: np.ndarray, power: float) -> np.ndarray:
    """By what the counts of rows are multiplied, float32 as ``totals``; 0 where there are none."""
    return np.maximum(totals, LEAST_MASS) ** np.float32(-power) * (totals > LEAST_MASS)


@cache
def _later(window: int) -> np.ndarray:
    """bool [W, W], whether the second of two places comes later."""
    return np.triu(np.ones((window, window), bool), 1)


def _zeros(size: int) -> np.ndarray:
    """float32 zeros, kept for the next call of this thread, which leaves zeros."""
    kept: np.ndarray | None = getattr(_local, "sums", None)
    if kept is None or len(kept) < size:
        kept = _local.sums = np.zeros(size, np.float32)
    return kept


@cache
def _steps(window: int) -> np.ndarray:
    """int64 [W], how far the newest items are from the end of a history."""
    return 1 + np.arange(window)
