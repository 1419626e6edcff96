"""The table of followers as evidence, with the few numbers that weigh it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.core.evidence import Evidence, Rows
from leanrec.core.followers import Counts, Pairs, add_followers, no_counts
from leanrec.core.recommender import HeldOut, Recommender, SparseScores
from leanrec.core.training_events import TrainingEvents, events_of
from leanrec.core.types import PAD, Batch
from leanrec.techniques.memory.config import MemoryConfig
from leanrec.techniques.memory.fit import fit_weights

FEATURES = 4
"""What the gain reads of a window, beside a constant."""
_SIGNS = 3
"""Numbers that tell how much the row of an item knows."""
_LEAST = 1e-4
"""Smaller sums of counts are rounding."""
_GATED = 5.0
"""Largest size of the logarithm of the gain."""


class FollowerTable(SparseScores):
    """Followers of the newest items, and those items themselves.

        m(u, i) = sum_j w_j (C(x_j, i) / (C(x_j)^power n_i^discount) + r [x_j = i])      x_1 the newest item, x_2 the one before
        log a(u) = b + g . (share of the window that is filled, share of repeats in it, log(1 + m(u)), largest entry of m(u))

    C(x, i) counts how often i follows x, and a share of how often it comes before; C(x) is the sum of its row, n_i the events of i
    over the mean of all items. In training, the pairs that the user's own later events make with the window are taken out of C: at
    that moment they had not happened, and a table that has seen the answer is trusted far too much. Exact where the items of a
    history differ; of an item that comes twice only the window's occurrence is taken out.

    Args:
        num_items: N.
        config: Its window is W, its reach the largest distance D, its rows R; r is its own at the start.
        causal: Whether the backbone is trained to predict the item after a step, and not the item hidden at it.
    """

    ids: Tensor
    counts: Tensor
    totals: Tensor
    weight: Tensor
    known: Tensor

    def __init__(self, num_items: int, config: MemoryConfig, causal: bool) -> None:
        super().__init__()
        self.num_items, self.config, self.causal = num_items, config, causal
        self.window, self.pairs = config.window, Pairs(config.reach, config.backward)
        self.register_buffer("ids", torch.zeros(num_items + 1, config.rows, dtype=torch.int32))
        self.register_buffer("counts", torch.zeros(num_items + 1, config.rows))
        self.register_buffer("totals", torch.zeros(num_items + 1))
        self.register_buffer("weight", torch.ones(num_items + 1))
        self.register_buffer("known", torch.zeros(num_items + 1, _SIGNS))
        self.weights, self.own, self.gate = map(nn.Parameter, self.neutral())

    def neutral(self) -> list[Tensor]:
        """The weights at the start, in the order of `parameters`: a row counts one over its place, and the gain is 1."""
        device = self.counts.device
        rows = math.log(self.config.scale) - torch.arange(1, self.window + 1, device=device).log()
        own = torch.tensor(math.log(self.config.own), device=device)
        return [rows, own, torch.zeros(1 + FEATURES, device=device)]

    def count(self, events: TrainingEvents) -> None:
        """Count the followers of all items anew."""
        if not self.config.rows:
            return
        if self.config.discount:
            frequent = torch.from_numpy(events_of(events)).float().clamp_min(1)
            self.weight.copy_((frequent / frequent[1:].mean()).pow(-self.config.discount))
        found = no_counts(self.num_items, self.config.rows)
        add_followers(found, events, self.pairs)
        self.recount(found)
        self.known.copy_(self._known(torch.from_numpy(found.counts).to(self.known.device)))

    @torch.no_grad()
    def counted(self) -> tuple[Counts, Pairs] | None:
        if not self.config.rows:
            return None
        raw = self.counts / self.weight[self.ids.long()]
        return Counts(*(array.cpu().numpy().copy() for array in (self.ids, raw, self.totals))), self.pairs

    @torch.no_grad()
    def recount(self, counts: Counts) -> None:
        self.ids.copy_(torch.from_numpy(counts.ids))
        self.counts.copy_(torch.from_numpy(counts.counts))
        self.counts.mul_(self.weight[self.ids.long()])
        self.totals.copy_(torch.from_numpy(counts.totals))

    def _known(self, counts: Tensor) -> Tensor:
        """log(1 + total), share of the strongest follower and entropy of each row of counts [N + 1, R]: [N + 1, 3]."""
        shares = counts / self.totals.clamp_min(_LEAST)[:, None]
        return torch.stack([self.totals.log1p(), shares.amax(1), torch.special.entr(shares).sum(1)], 1)

    @property
    def num_signs(self) -> int:
        """Numbers S that `signs` gives."""
        return (1 + _SIGNS) * self.window

    def signs(self, batch: Batch) -> Tensor:
        read = self.windows(batch)
        return torch.cat([self.known[read].flatten(1), (read != PAD).float()], 1)

    def calibrate(self, model: Recommender, held_out: HeldOut) -> None:
        """Fit the weights to the network that training ends with."""
        if self.config.fit:
            fit_weights(model, self, held_out)

    def evidence(self, batch: Batch, scored: Tensor | None = None) -> Evidence:
        return self.of(self.windows(batch)) if scored is None else self.of(*self._examples(batch, scored))

    def windows(self, batch: Batch) -> Tensor:
        """The newest items of histories, int64 [B, W], the newest first; 0 is none."""
        newest = batch.last[:, None] - torch.arange(self.window, device=batch.items.device)
        return batch.items.gather(1, newest.clamp_min(0)).masked_fill(newest < 0, PAD).clamp_min(PAD)

    def alone(self, batch: Batch) -> Evidence:
        return self.of(self.windows(batch), weights=self.neutral())

    def of(self, read: Tensor, later: Tensor | None = None, weights: Sequence[Tensor] | None = None) -> Evidence:
        """Evidence of windows.

        Args:
            read: int64 [M, W], items, the newest first; 0 is none.
            later: int64 [M, D], the user's own next items, which are not counted; 0 is none. None if none was counted.
            weights: In the order of `parameters`, which they replace.
        """
        rows, own, gate = weights or (self.weights, self.own, self.gate)
        ids, counts, totals = self.ids[read].long(), self.counts[read], self.totals[read]
        if later is not None:
            counts, totals = self._without(ids, counts, totals, later)
        factor = rows.exp() * totals.clamp_min(_LEAST).pow(-self.config.power) * (totals > _LEAST)
        mass = torch.cat([(counts * factor[..., None]).flatten(1), (own + rows).exp() * (read != PAD)], 1)
        return Evidence(torch.cat([ids.flatten(1), read], 1), mass, self._gain(read, mass, gate))

    def _gain(self, read: Tensor, mass: Tensor, gate: Tensor) -> Tensor:
        """a, [M], of windows int64 [M, W] whose entries have ``mass`` [M, J]."""
        known = (read != PAD).float()
        repeats = sum(
            ((read[:, :-d] == read[:, d:]) & (read[:, d:] != PAD)).float().sum(1) for d in range(1, self.window)
        )
        total = mass.sum(1)
        peak = mass.amax(1) / total.clamp_min(_LEAST)
        features = (known.mean(1), torch.as_tensor(repeats) / self.window, total.log1p(), peak)
        logged = gate[0] + torch.stack(torch.broadcast_tensors(*features), 1) @ gate[1:]
        return logged.clamp(-_GATED, _GATED).exp()

    def _examples(self, batch: Batch, scored: Tensor) -> tuple[Tensor, Tensor]:
        """Windows [M, W] and later items [M, D] of the scored steps of training examples."""
        assert batch.targets is not None
        items = batch.items.clamp_min(PAD)
        if self.causal:
            before, after = items, batch.targets
        else:  # the item of a scored step is hidden, and is what is wanted
            before, after = F.pad(items, (1, 0))[:, :-1], torch.where(batch.items < PAD, batch.targets, items)
        read = F.pad(before, (self.window - 1, 0)).unfold(1, self.window, 1).flip(2)
        later = F.pad(after, (0, self.pairs.reach - 1)).unfold(1, self.pairs.reach, 1)
        return read.flatten(0, 1)[scored], later.flatten(0, 1)[scored]

    def _without(self, ids: Tensor, counts: Tensor, totals: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        """Counts [M, W, R] and totals [M, W] without the pairs of the window's items with later ones."""
        counts, totals = counts.clone(), totals.clone()
        for place, ahead in self._own_pairs():
            item, share = later[:, ahead, None], 1 / (1 + place + ahead)
            counts[:, place] -= share * self.weight[item] * ((ids[:, place] == item) & (item != PAD))
            totals[:, place] -= share * (item[:, 0] != PAD)
        return counts.clamp_min_(0), totals

    def _own_pairs(self) -> Iterator[tuple[int, int]]:
        """Places in the window and in what comes later whose distance is counted."""
        places = product(range(min(self.window, self.pairs.reach)), range(self.pairs.reach))
        return ((place, ahead) for place, ahead in places if 1 + place + ahead <= self.pairs.reach)

    @torch.no_grad()
    def rows(self) -> Rows:
        weights = self.weights.exp()
        shares = self.counts * (self.totals.clamp_min(_LEAST).pow(-self.config.power) * (self.totals > _LEAST))[:, None]
        growth = torch.tensor([self.pairs.reach if self.config.rows else 0.0, self.config.power, self.pairs.backward])
        start, own, _ = self.neutral()
        alone = torch.stack([start, own + start]).exp()
        own, growing = self.own.exp() * weights, (self.totals, self.weight, growth)
        return Rows(self.ids, shares, weights, own, self.gate, *growing, alone)

    def flops(self, channels: int) -> int:
        return 2 * self.window * (self.config.rows + 1) * (1 + channels)
