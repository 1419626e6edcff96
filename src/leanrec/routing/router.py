"""Routers: from a user's history to one score per route."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.core.backbone import ItemTable
from leanrec.core.context import Context
from leanrec.core.types import PAD, Batch
from leanrec.items.tables import PlainTable

_CONSTANT = 1e-6
"""Standard deviation below which an input says nothing; it is not scaled then."""
_FARTHEST = 5.0
"""Standard deviations beyond which inputs are cut, so that a history unlike all others is not routed at random."""
HISTORY_NUMBERS = 4
"""Numbers that describe a history beside its items: log length, repeats, popularity of the newest item and of all."""


class Router(nn.Module, ABC):
    """Scores routes in two steps, so that what is read of a history need be read only once while the rest is fitted.

    Attributes:
        out: The last layer.
    """

    out: nn.Linear

    @abstractmethod
    def features(self, items: ItemTable, batch: Batch) -> Tensor:
        """What is read of histories [B, T]: [B, F]."""

    @abstractmethod
    def score(self, features: Tensor) -> Tensor:
        """Scores [B, K] of features [B, F]."""

    def standardise(self, features: Tensor, share: float = 1.0) -> None:
        """Take the scale of the inputs from a sample [U, F]; with a ``share`` below 1 it only moves that far."""

    @torch.no_grad()
    def rescale(self, factor: Tensor, shift: Tensor) -> None:
        """Multiply all scores by a scalar and add ``shift`` [K]."""
        self.out.weight *= factor
        self.out.bias.copy_(self.out.bias * factor + shift)

    def forward(self, items: ItemTable, batch: Batch) -> Tensor:
        """Scores [B, K] of histories [B, T]."""
        return self.score(self.features(items, batch))


class TableRouter(Router):
    """Reads histories through an item table of its own.

    Args:
        num_items: Items N.
        outputs: Scores per user.
        max_length: Longest sequence.
        width: Channels of the table.
        std: Standard deviation of the table at the start.
    """

    def __init__(self, num_items: int, outputs: int, max_length: int, width: int, std: float) -> None:
        super().__init__()
        self.max_length = max_length
        self.items = PlainTable(num_items, width, std)
        self.out = nn.Linear(width, outputs)

    @abstractmethod
    def read(self, x: Tensor, ctx: Context) -> Tensor:
        """What item vectors [B, T, C] say of a user: [B, C]."""

    def features(self, items: ItemTable, batch: Batch) -> Tensor:
        """Item ids int64 [B, max_length], and the length in one more column; hidden items are read as padding."""
        room = self.max_length - batch.items.shape[1]
        return torch.cat([F.pad(batch.items.clamp_min(PAD), (0, room)), batch.lengths[:, None]], 1)

    def score(self, features: Tensor) -> Tensor:
        return self._score(features[:, :-1], features[:, -1])

    def forward(self, items: ItemTable, batch: Batch) -> Tensor:
        """As `Router.forward`, at no longer sequences than there are."""
        return self._score(batch.items.clamp_min(PAD), batch.lengths)

    def _score(self, ids: Tensor, lengths: Tensor) -> Tensor:
        x = self.items.embed(ids)
        return self.out(self.read(x, Context(lengths, ids.shape[1], x.shape[-1])))


class SharedRouter(Router):
    """Reads the backbone's item table: the newest vector, the mean vector and `HISTORY_NUMBERS` numbers; one hidden layer, or none.

    No gradient reaches the table. It starts with equal scores for all users.

    Args:
        dim: Channels of the item table that it reads.
        routes: K.
        hidden: Units of the hidden layer; 0 for none.
        dropout: On the inputs and the hidden layer.
        more: Inputs beside what `features` reads, at their end.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, routes: int, hidden: int = 64, dropout: float = 0.5, more: int = 0) -> None:
        super().__init__()
        self.dim, inputs = dim, 2 * dim + HISTORY_NUMBERS + more
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("std", torch.ones(inputs))
        self.inner = nn.Linear(inputs, hidden) if hidden else None
        self.out = nn.Linear(hidden or inputs, routes)
        self.drop = nn.Dropout(dropout)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def features(self, items: ItemTable, batch: Batch) -> Tensor:
        """The vectors and numbers: float [B, 2 dim + HISTORY_NUMBERS]."""
        ids, lengths = batch.items.clamp_min(PAD), batch.lengths[:, None]
        vectors = items.embed(ids, self.dim).detach()
        newest = batch.last[:, None]
        rarity = ids.clamp_min(1).log()  # ids go by descending popularity; log 1 = 0 for padding
        ordered = F.pad(ids.sort(1).values, (1, 0))  # so that a graph has no step that one event does not have
        repeats = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PAD)).sum(1, keepdim=True)
        return torch.cat(
            [
                vectors.gather(1, newest.unsqueeze(-1).expand(-1, -1, self.dim)).squeeze(1),
                vectors.sum(1) / lengths,
                lengths.log(),
                repeats / lengths,
                rarity.gather(1, newest),
                rarity.sum(1, keepdim=True) / lengths,
            ],
            1,
        )

    def standardise(self, features: Tensor, share: float = 1.0) -> None:
        std = features.std(0, correction=0)
        self.mean.lerp_(features.mean(0), share)
        self.std.lerp_(torch.where(std > _CONSTANT, std, 1.0), share)

    def score(self, features: Tensor) -> Tensor:
        x = self.drop(((features - self.mean) / self.std).clamp(-_FARTHEST, _FARTHEST))
        return self.out(x if self.inner is None else self.drop(torch.relu(self.inner(x))))
