"""Evidence: what is known of few items beside the network's scores, and how it is added to them.

    s(u, i) = network(u, i) + a(u) log(1 + m(u, i))

m is the mass of evidence for an item: the sum over all entries that name it, and 0 for the items that none names. Additions are
never negative, so an item without evidence that is among the k best of the sum is among the network's k best.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.types import PAD


class Additions(NamedTuple):
    """What is added to the scores of few items.

    Attributes:
        ids: int64 [M, J], each item at most once in a row; 0 is none.
        values: float [M, J], at least 0, and 0 where the id is.
    """

    ids: Tensor
    values: Tensor

    def onto(self, scores: Tensor) -> Tensor:
        """Scores [M, N] of all items with the additions; column j is item j + 1."""
        return scores.scatter_add(1, (self.ids - 1).clamp_min(0), self.values.to(scores.dtype))

    def rows(self, some: slice | Tensor) -> Additions:
        """Those of some of the M."""
        return Additions(self.ids[some], self.values[some])


class Evidence(NamedTuple):
    """Entries of evidence for M states.

    Attributes:
        ids: int64 [M, J], items; one may come several times in a row. 0 is none.
        mass: float [M, J], at least 0, and 0 where the id is.
        gain: float [M], a.
    """

    ids: Tensor
    mass: Tensor
    gain: Tensor

    def additions(self) -> Additions:
        """What each item gets, its entries summed."""
        ids, order = self.ids.sort(1)
        first = F.pad(ids[:, 1:] != ids[:, :-1], (1, 0), value=True)
        place = first.long().cumsum(1) - 1
        mass = torch.zeros_like(self.mass).scatter_add(1, place, self.mass.gather(1, order))
        named = torch.zeros_like(ids).scatter(1, place, ids)
        return Additions(named, self.gain[:, None] * mass.log1p())

    def at(self, ids: Tensor) -> Tensor:
        """What the given items get, [M, K], for ids int64 [K] or [M, K]; an id may come several times."""
        wanted = ids.sort(-1)[0]
        place = torch.searchsorted(wanted, self.ids)
        found = wanted.expand(len(self.ids), -1).gather(1, place.clamp_max(wanted.shape[-1] - 1))
        mass = self.mass * ((found == self.ids) & (self.ids != PAD))
        total = mass.new_zeros(len(mass), wanted.shape[-1] + 1).scatter_add(1, place, mass)
        first = torch.searchsorted(wanted, ids)  # of equal ids the first one holds the mass
        return self.gain[:, None] * total.gather(1, first.expand(len(mass), -1)).log1p()

    def rows(self, some: slice) -> Evidence:
        """That of some of the M."""
        return Evidence(self.ids[some], self.mass[some], self.gain[some])


class Rows(NamedTuple):
    """Evidence as numbers that need no torch: entries of the newest W items, read from a table with a row an item.

    Rows may grow by events: a pair of events of a user at distance d counts 1 / d (`core.followers`). An item's share in a row is
    its count, times its worth, over the total of the row to a power.

    Attributes:
        ids: int32 [N + 1, R], the items of each row; 0 is none.
        shares: float32 [N + 1, R], their weights in it.
        window: float32 [W], the weight of the row of the newest item, of the one before, and so on.
        own: float32 [W], the mass that these items have themselves.
        gate: float32 [5], constant and factors of the features of `gain`.
        totals: float32 [N + 1], the sum of all counts of a row.
        worth: float32 [N + 1], by which the counts of an item are multiplied in every row.
        growth: float32 [3], the largest distance d, which is 0 for rows that do not grow, the power, and the share `backward`.
        alone: float32 [2, W], in the place of ``window`` and ``own`` where no network is asked; the gain is 1 then.
    """

    ids: Tensor
    shares: Tensor
    window: Tensor
    own: Tensor
    gate: Tensor
    totals: Tensor
    worth: Tensor
    growth: Tensor
    alone: Tensor
