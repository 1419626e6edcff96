"""The two ways to train a grid of routes; see `technique`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.recommender import Criterion, Recommender
from leanrec.core.types import Batch, Route
from leanrec.routing.fit import newest_hits
from leanrec.routing.sandwich import SandwichLoss
from leanrec.techniques.canet.choice import grid_choice

LABELLED_TOP = 10
"""The smallest route hits if the next item is among so many."""
SHARPNESS = {"emb": 2.0, "width": 2.0, "depth": 1.0}
"""beta of L_Guide's targets."""


class GridSandwich(SandwichLoss):
    """The whole model, the smallest route and a few random ones.

    Args:
        random_routes: How many random ones.
        distil: See `SandwichLoss`.
        candidates: See `SandwichLoss`.
    """

    def __init__(self, random_routes: int, distil: float, candidates: int) -> None:
        super().__init__(distil, candidates)
        self.random_routes = random_routes

    def others(self, model: Recommender) -> list[Route]:
        """The smallest route and the random ones."""
        routes = grid_choice(model).grid.routes
        return [routes[0], *self.drawn(routes)]

    def drawn(self, routes: tuple[Route, ...]) -> list[Route]:
        """Routes between the smallest and the whole model, drawn for one step."""
        between = routes[1:-1]
        drawn = torch.randint(max(1, len(between)), (self.random_routes,))
        return [between[i] for i in drawn.tolist()] if between else []


class GuidedLoss(Criterion):
    """The paper's loss, which trains router and network together.

    Args:
        guide: Weight of L_Guide.
        uniform: Weight of L_Uni.
        temperature: tau of the Gumbel-softmax.
    """

    def __init__(self, guide: float, uniform: float, temperature: float) -> None:
        super().__init__()
        self.guide_weight, self.uniform_weight, self.temperature = guide, uniform, temperature

    def terms(self, model: Recommender, batch: Batch) -> dict[str, Tensor]:
        batch, choice = model.backbone.examples(batch), grid_choice(model)
        logits = choice.decide(model, batch)
        drawn = F.gumbel_softmax(logits, self.temperature, hard=True)[:, None]
        newest = torch.arange(batch.items.shape[1], device=drawn.device) == batch.last[:, None]
        drawn = drawn.detach() + (drawn - drawn.detach()) * newest.unsqueeze(-1)
        terms = model.objective_of(batch, gates=choice.grid.gates(drawn))
        terms["guide"] = self.guide_weight * self.guide(model, batch, logits)
        terms["uniform"] = -self.uniform_weight * logits.log_softmax(-1).mean()
        return terms

    def guide(self, model: Recommender, batch: Batch, logits: Tensor) -> Tensor:
        """L_Guide, not weighted, over the users whose newest step has a target; ``logits`` [B, K] are those of the router."""
        grid = grid_choice(model).grid
        wanted, hit = newest_hits(model, batch, LABELLED_TOP, grid.routes[0])
        total = torch.zeros((), device=logits.device)
        users = wanted.sum().clamp_min(1)
        for log_p, beta in zip(grid.marginals(logits), SHARPNESS.values(), strict=True):
            small = soft_labels(log_p.shape[1], beta).to(logits.device)
            soft = torch.where(hit[:, None], small, small.flip(0))
            total = total - (soft * log_p).sum(1)[wanted].sum() / users
        return total


def soft_labels(sizes: int, beta: float) -> Tensor:
    """L_Guide's target for a hit, float [sizes]: 2 ** (-beta i) for the i-th smallest size, normalised; reversed for a miss."""
    weights = 2.0 ** (-beta * torch.arange(sizes))
    return weights / weights.sum()
