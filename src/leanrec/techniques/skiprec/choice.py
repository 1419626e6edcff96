"""The choice of a pattern of blocks."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.types import Batch, Route
from leanrec.routing.choice import PricedChoice
from leanrec.routing.fit import fit_router, read_features, read_sample
from leanrec.techniques.skiprec.config import JOINT, SkipRecConfig
from leanrec.techniques.skiprec.menu import favoured, grown
from leanrec.techniques.skiprec.policy import Policy, route_of


class PatternChoice(PricedChoice):
    """Every user takes one of the patterns of blocks of a policy's menu.

    Args:
        policy: Scores them.
        longest: Longest history that is read.
        config: How policy and menu come about, and the budget.

    Attributes:
        price: Scalar; the log-odds above which blocks are kept until the dial is fitted, where policy and weights learn together.
    """

    router: Policy
    price: Tensor

    def __init__(self, policy: Policy, longest: int, config: SkipRecConfig) -> None:
        super().__init__(policy, len(policy.menu), longest, config.budget, config.mean)
        self.config = config
        self.register_buffer("price", torch.zeros(()))

    def all_routes(self) -> tuple[Route, ...]:
        """The patterns of the menu."""
        return self.router.routes

    def routes_before(self, model: Recommender, batch: Batch) -> list[Route]:
        """The routes that epochs are compared at: those of the policy, if it is trained with the weights.

        With a target for the mean, blocks are kept at the price that has met it in training of late: epochs are compared at one
        cost, not at that of a policy which has not learned to skip yet.
        """
        if self.config.training not in JOINT:
            return super().routes_before(model, batch)
        odds = self.router.odds(self.router.features(model.items, batch))
        return [route_of(pattern) for pattern in (odds > self.price).tolist()]

    def begin(self, model: Recommender, held_out: HeldOut) -> None:
        """Make the menu before the first step, if it is trained with the weights."""
        if self.config.training == "menu" and not self.dial.fitted:
            self._grow(model, held_out)

    def prepare(self, model: Recommender, held_out: HeldOut) -> None:
        """Make the menu, and fit a policy that was not trained with the weights."""
        if self.config.training in JOINT:
            features, _ = read_features(model, self.router, held_out.current())
            self.router.serve(favoured(self.router.odds(features).detach(), self._free))
        else:
            if self.config.training != "menu":
                self._grow(model, held_out)
            fit_router(
                self.router,
                read_sample(model, partial(self.router.features, model.items), held_out, self.router.routes),
            )

    @property
    def _free(self) -> int:
        """Places on the menu beside the whole model."""
        return len(self.router.menu) - 1

    def _grow(self, model: Recommender, held_out: HeldOut) -> None:
        self.router.serve(grown(model, held_out, self._free))


def pattern_choice(model: Recommender) -> PatternChoice:
    """The choice that SkipRec gave a model."""
    assert isinstance(model.choice, PatternChoice)
    return model.choice
