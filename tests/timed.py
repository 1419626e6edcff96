"""A backbone that reads the times of events, for tests of what a model reads beside items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.backbones import backbones
from leanrec.core.context import Context, Steps
from leanrec.core.pricing import Pricing
from leanrec.core.ranges import Few
from leanrec.core.recommender import HeldOut, Recommender, RouteChoice
from leanrec.core.types import TIME, Batch, Route
from leanrec.layers.transformer import Transformer, TransformerConfig
from toys import random_batch, randomise

DAY = 86_400


class TimedConfig(TransformerConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Self-attention over the history and the ages of its events.

    Attributes:
        buckets: Ages in days that are told apart: 0, 1, 2 to 3, 4 to 7, and so on.
    """

    buckets: Few = 12


class Timed(Transformer):
    """Attention sees the whole history, and every event has a vector for its age: from it to the newest event."""

    reads = frozenset({TIME})
    causal = False

    def __init__(self, config: TimedConfig, num_items: int) -> None:
        super().__init__(config, num_items, config.max_length)
        self.ages = nn.Parameter(torch.randn(config.buckets, config.width) * config.std)

    def examples(self, batch: Batch) -> Batch:
        """The newest step's next item alone: an age is known when the newest event is."""
        assert batch.targets is not None
        newest = torch.arange(batch.items.shape[1], device=batch.items.device) == batch.last[:, None]
        return replace(batch, targets=batch.targets * newest)

    def positions(self, ctx: Context, have: Steps) -> Tensor:
        days = (ctx.column(TIME, (0,)) - ctx.column(TIME, have)).clamp_min(0) // DAY
        powers = 2 ** torch.arange(len(self.ages) - 1, device=days.device)
        bucket = (days.unsqueeze(-1) >= powers).sum(-1)
        return super().positions(ctx, have) + F.embedding(bucket, self.ages[:, : ctx.width])


class BySpan(RouteChoice):
    """Users whose history spans up to 100 days take the first block alone."""

    def all_routes(self) -> tuple[Route, ...]:
        return (Route(layers=(0,)), Route())

    def decide(self, model: Recommender, batch: Batch) -> Tensor:
        times = batch.context[TIME]
        days = (times.gather(1, batch.last[:, None]) - times[:, :1]) / DAY
        return torch.cat([(days <= 100).float(), torch.full_like(days, 0.5)], 1)

    def routes(self, model: Recommender, batch: Batch, budget: float | None) -> list[Route]:
        return self.pricing().choose(self.decide(model, batch).numpy(), batch.lengths.numpy(), budget)

    def pricing(self) -> Pricing:
        costs = np.zeros((CONFIG.max_length + 1, 2), np.float32)
        return Pricing(self.all_routes(), costs, np.array([0.5, 1.0]), np.zeros(2), 0.0)

    def budgets(self) -> tuple[float, float]:
        return 0.5, 1.0

    def calibrate(self, model: Recommender, held_out: HeldOut) -> None:
        pass


CONFIG = TimedConfig(width=12, layers=2, heads=2, max_length=10, std=0.5)


def timed_batch(items: int, lengths: Sequence[int], targets: bool = True) -> Batch:
    """Random histories whose events are some days apart."""
    batch = random_batch(items, lengths)
    times = (1_600_000_000 + torch.randint(0, 40 * DAY, batch.items.shape).cumsum(1)) * (batch.items > 0)
    return replace(batch, targets=batch.targets if targets else None, context={TIME: times})


def timed_model(items: int, routed: bool = False) -> Recommender:
    """A model in eval mode, away from its neutral start."""
    found = Recommender(
        Timed(CONFIG, items), lambda model, batch, states, targets: {"nll": model.items.nll(states, targets)}
    )
    found.choice = BySpan() if routed else None
    randomise(found)
    return found.eval()


def registered(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which the backbone is known until the end of a test."""
    backbones.discover()
    monkeypatch.setattr(backbones, "_entries", dict(vars(backbones)["_entries"]))
    backbones.register("timed", TimedConfig)(Timed)
    return "timed"
