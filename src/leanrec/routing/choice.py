"""A choice of K routes: a router that scores them, and a budget dial."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from leanrec.core.pricing import Pricing
from leanrec.core.recommender import HeldOut, Recommender, RouteChoice
from leanrec.core.types import Batch, Route
from leanrec.routing.dial import Budget, CostTable, Dial, Mean, choose
from leanrec.routing.fit import read_features
from leanrec.routing.router import Router


class PricedChoice(RouteChoice):
    """Every user takes the route with the best score at the price of compute; see `routing.dial`.

    Args:
        router: Scores the routes.
        routes: K.
        longest: Longest history that is read.
        budget: Default mean cost; see `Budget`.
        mean: What a mean cost is taken over; see `CostTable`.
    """

    def __init__(self, router: Router, routes: int, longest: int, budget: Budget, mean: Mean) -> None:
        super().__init__()
        self.router = router
        self.budget: Budget = budget
        self.costs, self.dial = CostTable(longest, routes, mean), Dial()

    @abstractmethod
    def prepare(self, model: Recommender, held_out: HeldOut) -> None:
        """Fit what scores the routes, before the dial is."""

    def decide(self, model: Recommender, batch: Batch) -> Tensor:
        """The router's scores [B, K]."""
        return self.router(model.items, batch)

    @torch.inference_mode()
    def routes(self, model: Recommender, batch: Batch, budget: float | None) -> list[Route]:
        if not self.dial.fitted:
            return self.routes_before(model, batch)
        routes = self.all_routes()
        price = self.dial.price(budget) if budget is not None else self.dial.usual(self.budget)
        chosen = choose(self.decide(model, batch), self.costs(batch.lengths), price)
        return [routes[i] for i in chosen.tolist()]

    def routes_before(self, model: Recommender, batch: Batch) -> list[Route]:
        """Routes until the dial is fitted: users are spread over all of them, so that validation sees them all."""
        routes = self.all_routes()
        return [routes[i] for i in (batch.items.sum(1) % len(routes)).tolist()]

    def budgets(self) -> tuple[float, float] | None:
        return self.dial.span()

    def pricing(self) -> Pricing | None:
        if not self.dial.fitted:
            return None
        budgets, prices = self.dial.budgets.cpu().numpy(), self.dial.prices.cpu().numpy()
        return Pricing(self.all_routes(), self.costs.every.cpu().numpy(), budgets, prices, self.dial.usual(self.budget))

    @torch.no_grad()
    def calibrate(self, model: Recommender, held_out: HeldOut) -> None:
        """Fit the router where `prepare` does, then the costs of the routes and the dial."""
        model.eval()
        with torch.enable_grad():
            self.prepare(model, held_out)
        features, lengths = read_features(model, self.router, held_out.current())
        self.costs.fit(held_out, self.all_routes(), lengths)
        self.dial.fit(self.router.score(features), self.costs(lengths))
