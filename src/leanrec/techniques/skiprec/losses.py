"""The ways to train blocks that are skipped; see `technique`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.recommender import Criterion, Recommender
from leanrec.core.types import Batch, Gates, Route
from leanrec.routing.fit import newest_hits
from leanrec.routing.sandwich import SandwichLoss
from leanrec.techniques.skiprec.choice import pattern_choice
from leanrec.techniques.skiprec.config import JOINT, SkipRecConfig

REWARDED_TOP = 5
"""The reward asks whether the next item is among so many."""
TRACKED = 0.05
"""Share of every batch in the running scale of what a policy reads, and in the running price."""


class PatternSandwich(SandwichLoss):
    """The whole model and patterns of blocks: any, or those of the menu.

    Args:
        config: How many patterns, and which.
    """

    def __init__(self, config: SkipRecConfig) -> None:
        super().__init__(config.distil, config.candidates)
        self.config = config

    def others(self, model: Recommender) -> list[Route]:
        """The patterns of one step."""
        draw = self.listed if self.config.training == "menu" else self.random
        return [draw(model) for _ in range(self.config.random_patterns)]

    def random(self, model: Recommender) -> Route:
        """A random pattern; the share of blocks it keeps is even between 0 and twice ``keep``, or between what is left and 1."""
        keep, blocks = self.config.keep, len(model.backbone.blocks)
        spread = min(keep, 1 - keep)
        share = keep + spread * (2 * torch.rand(()) - 1)
        kept = max(1, min(blocks - 1, round(float(share) * blocks)))
        return Route(layers=tuple(sorted(torch.randperm(blocks)[:kept].tolist())))

    def listed(self, model: Recommender) -> Route:
        """A pattern of the menu at random, not the whole model."""
        routes = pattern_choice(model).all_routes()
        return routes[int(torch.randint(len(routes) - 1, ()))]


class StochasticDepth(Criterion):
    """The objective with every block kept or not at random, for every user (Huang et al. 2016).

    Args:
        keep: Probability to keep a block.
    """

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = keep

    def terms(self, model: Recommender, batch: Batch) -> dict[str, Tensor]:
        examples = model.backbone.examples(batch)
        drawn = torch.rand(batch.size, 1, len(model.backbone.blocks), device=batch.items.device) < self.keep
        return model.objective_of(examples, gates=Gates(layers=drawn / self.keep))


class PolicyLoss(Criterion):
    """The paper's loss, which trains policy and network together, and the compute term.

    Args:
        config: Weights of the terms.
    """

    def __init__(self, config: SkipRecConfig) -> None:
        super().__init__()
        self.config = config

    def terms(self, model: Recommender, batch: Batch) -> dict[str, Tensor]:
        """The objective and the terms of the policy, which reads whole histories even if training examples hide items."""
        examples, choice, config = model.backbone.examples(batch), pattern_choice(model), self.config
        policy = choice.router
        features = policy.features(model.items, batch)
        policy.standardise(features, TRACKED)
        odds = policy.odds(features)
        noisy = odds + gumbel_like(odds) - gumbel_like(odds)
        soft = (noisy / config.temperature).sigmoid()
        drawn = (noisy > 0).to(soft.dtype)
        newest = torch.arange(examples.items.shape[1], device=odds.device) == examples.last[:, None]
        bits = drawn[:, None] + (soft - soft.detach())[:, None] * newest.unsqueeze(-1)
        terms = model.objective_of(examples, gates=Gates(layers=bits))
        if config.compute:
            choice.price.lerp_(odds.detach().quantile(1 - config.keep), TRACKED)
            terms["compute"] = config.compute * (odds.sigmoid().mean() - config.keep) ** 2
        if config.training == "rl":
            terms["reward"] = config.reward * self.critical(model, examples, odds, drawn)
        return terms

    def critical(self, model: Recommender, batch: Batch, odds: Tensor, drawn: Tensor) -> Tensor:
        """L_RL of log-odds and drawn bits, both [B, L], over the users whose newest step has a target."""
        firm = (odds > 0).to(drawn.dtype)
        wanted, ours = self.reward(model, batch, drawn)
        _, usual = self.reward(model, batch, firm)
        log_p = F.logsigmoid(torch.where(drawn > 0, odds, -odds)).sum(1)
        return -(log_p * (ours - usual))[wanted].sum() / wanted.sum().clamp_min(1)

    def reward(self, model: Recommender, batch: Batch, bits: Tensor) -> tuple[Tensor, Tensor]:
        """Whose newest step has a target, and the reward [B] of patterns [B, L]."""
        wanted, hit = newest_hits(model, batch, REWARDED_TOP, skip=bits == 0)
        return wanted, torch.where(hit, 1 - bits.mean(1).square(), -self.config.miss)


def loss_of(config: SkipRecConfig) -> Criterion:
    """The loss of a way to train."""
    if config.training in JOINT:
        return PolicyLoss(config)
    return StochasticDepth(config.keep) if config.training == "depth" else PatternSandwich(config)


def gumbel_like(x: Tensor) -> Tensor:
    """Noise of Gumbel(0, 1) in the shape of ``x``."""
    return -torch.empty_like(x).exponential_().log()
