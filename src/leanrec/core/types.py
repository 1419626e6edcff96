"""Plain data that every module shares, and the shape letters used in all docstrings.

Shape letters: B users in a batch, T steps of the longest history in it, D width (channels), N items in the
catalogue, L layers (blocks), K routes, M scored positions of a batch (those with a target), H heads.

Item ids are 1..N by descending popularity; 0 is padding. Histories are right-padded: the newest item of
user b stands at ``items[b, lengths[b] - 1]``. MASK stands for an item that is hidden from the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.plain import FULL, MASK, NO_NETWORK, PAD, TIME, Catalog, Cost, Memory, Route

__all__ = [
    "FULL",
    "MASK",
    "NO_NETWORK",
    "PAD",
    "TIME",
    "Batch",
    "Catalog",
    "Cost",
    "Gates",
    "Hidden",
    "Memory",
    "Route",
]


@dataclass(frozen=True, slots=True)
class Batch:
    """Histories of B users.

    Attributes:
        items: int64 [B, T], right-padded with 0.
        lengths: int64 [B], at least 1.
        targets: int64 [B, T], the item wanted at every step (the next one) and 0 where there is none; None outside training.
        users: int64 [B], rows of the store, or None for requests without a known user.
        context: What the model reads beside items (`Backbone.reads`), by name: [B, T] with a value per event, right-padded with 0,
            or [B] with one per request. Empty for a model that reads items only.
    """

    items: Tensor
    lengths: Tensor
    targets: Tensor | None = None
    users: Tensor | None = None
    context: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def size(self) -> int:
        """Number of users B."""
        return self.items.shape[0]

    @property
    def last(self) -> Tensor:
        """int64 [B], the step of each user's newest item."""
        return self.lengths - 1

    def scored(self) -> tuple[Tensor, Tensor]:
        """Steps with a target: flat indices into [B*T] and the targets there, both int64 [M]."""
        if self.targets is None:
            raise ValueError("this batch has no targets")
        flat = self.targets.reshape(-1)
        index = flat.nonzero().squeeze(1)
        return index, flat[index]

    def rows(self, index: Tensor) -> Batch:
        """The sub-batch of the given users (int64 [B']), cut to the longest history among them."""
        lengths = self.lengths[index]
        steps = int(lengths.max())
        return Batch(
            self.items[index, :steps],
            lengths,
            None if self.targets is None else self.targets[index, :steps],
            None if self.users is None else self.users[index],
            {
                name: column[index] if column.dim() == 1 else column[index, :steps]
                for name, column in self.context.items()
            },
        )

    def prefixes(self, lengths: Tensor) -> Batch:
        """The first ``lengths`` (int64 [B]) events of every user, without targets; what comes later is padding."""
        inside = torch.arange(self.items.shape[1], device=lengths.device) < lengths[:, None]
        kept = {name: column if column.dim() == 1 else column * inside for name, column in self.context.items()}
        return Batch(self.items * inside, lengths, users=self.users, context=kept)

    def appended(self, items: Tensor, more: Tensor | int = 1) -> Batch:
        """One step more, without targets.

        What else is read of the new step is what the newest event has: a token that asks for the next item stands at its time.

        Args:
            items: int64 [B, T + 1].
            more: By how much each history is longer: 1, or int64 [B].
        """
        at = self.lengths[:, None]
        context = {
            name: column if column.dim() == 1 else F.pad(column, (0, 1)).scatter(1, at, column.gather(1, at - 1))
            for name, column in self.context.items()
        }
        return Batch(items, self.lengths + more, users=self.users, context=context)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            items=self.items.to(device),
            lengths=self.lengths.to(device),
            targets=None if self.targets is None else self.targets.to(device),
            users=None if self.users is None else self.users.to(device),
            context={name: column.to(device) for name, column in self.context.items()},
        )


def blank_context(reads: Iterable[str], items: Tensor) -> dict[str, Tensor]:
    """Columns of zeros for histories int64 [B, T], where their values do not matter."""
    return {name: torch.zeros_like(items) for name in sorted(reads)}


@dataclass(frozen=True, slots=True)
class Gates:
    """Masked execution of one route per user at full width, for training a router with gradients.

    Entries are 0 or 1 in the forward pass (or soft values while searching); channels form a prefix. Masked execution
    equals the sliced execution of the same route. S is 1, or T where the steps of a user shall pass different gradients.

    Attributes:
        emb: float [B, S, E] over embedding channels, or None for all open.
        width: float [B, S, D] over hidden channels, or None for all open.
        layers: float [B, S, L] over blocks, or None for all open.
    """

    emb: Tensor | None = None
    width: Tensor | None = None
    layers: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Hidden:
    """What a backbone returns.

    Attributes:
        states: float [B, T, w] for all steps, or [B, w] when only the newest step was asked for; w is the route's width.
        layers: The states after every block that ran, if they were asked for.
        skipped: bool [B, L], the blocks that each user left out, where users did not all run the same ones.
    """

    states: Tensor
    layers: tuple[Tensor, ...] = ()
    skipped: Tensor | None = None
