"""A recommender with a choice of K routes, a router that scores them, and a budget dial."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from leanrec.core.pricing import Pricing
from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.types import Batch, Route
from leanrec.routing.dial import Budget, CostTable, Dial, Mean, choose
from leanrec.routing.fit import read_features
from leanrec.routing.router import Router


class Routed(Recommender, ABC):
    """Every user takes the route with the best score at the price of compute; see `routing.dial`.

    Args:
        model: The plain model.
        router: Scores the routes.
        routes: K.
        budget: Mean cost when none is asked for; see `Budget`.
        mean: Over what; see `CostTable`.
    """

    def __init__(self, model: Recommender, router: Router, routes: int, budget: Budget, mean: Mean) -> None:
        super().__init__(model.backbone, model.objective)
        self.router = router
        self.budget: Budget = budget
        self.costs, self.dial = CostTable(model.backbone.max_length, routes, mean), Dial()

    @abstractmethod
    def all_routes(self) -> tuple[Route, ...]:
        """See `Recommender.all_routes`."""

    @abstractmethod
    def prepare(self, held_out: HeldOut) -> None:
        """Fit what scores the routes, before the dial is."""

    def decide(self, batch: Batch) -> Tensor:
        """The router's scores [B, K]."""
        return self.router(self.items, batch)

    @torch.inference_mode()
    def routes(self, batch: Batch, budget: float | None = None) -> list[Route]:
        """See `Recommender.routes`."""
        if not self.dial.fitted:
            return self.routes_before(batch)
        routes = self.all_routes()
        price = self.dial.price(budget) if budget is not None else self.dial.usual(self.budget)
        chosen = choose(self.decide(batch), self.costs(batch.lengths), price)
        return [routes[i] for i in chosen.tolist()]

    def routes_before(self, batch: Batch) -> list[Route]:
        """Routes until the model is calibrated: users are spread over all of them, so that validation sees them all."""
        routes = self.all_routes()
        return [routes[i] for i in (batch.items.sum(1) % len(routes)).tolist()]

    def budgets(self) -> tuple[float, float] | None:
        """See `Recommender.budgets`."""
        return (float(self.dial.budgets[0]), float(self.dial.budgets[-1])) if self.dial.fitted else None

    def pricing(self) -> Pricing | None:
        """See `Recommender.pricing`."""
        if not self.dial.fitted:
            return None
        costs = self.costs(torch.arange(self.backbone.max_length + 1, device=self.dial.budgets.device))
        budgets, prices = self.dial.budgets.cpu().numpy(), self.dial.prices.cpu().numpy()
        return Pricing(self.all_routes(), costs.cpu().numpy(), budgets, prices, self.dial.usual(self.budget))

    @torch.no_grad()
    def calibrate(self, held_out: HeldOut) -> None:
        """See `Recommender.calibrate`."""
        self.eval()
        with torch.enable_grad():
            self.prepare(held_out)
        features, lengths = read_features(self, self.router, held_out.current())
        self.costs.fit(held_out, self.all_routes(), lengths)
        self.dial.fit(self.router.score(features), self.costs(lengths))
