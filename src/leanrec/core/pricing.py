"""From scores of routes to routes, without tensors: what an exported model needs to choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leanrec.core.errors import ConfigError
from leanrec.core.plain import Route

_ROUNDING = 1e-3
"""Budgets this close to the cheapest route's cost are taken for it."""


def price_of(budgets: Sequence[float], prices: Sequence[float], budget: float) -> float:
    """The lambda of a budget, linear between the solved ones.

    Args:
        budgets: Evenly spread, ascending.
        prices: Their lambdas.
        budget: Mean cost wanted, as a share of the whole model's FLOPs.

    Raises:
        ConfigError: The budget is below what the cheapest route costs.
    """
    least, most = float(budgets[0]), float(budgets[-1])
    if budget < least - _ROUNDING:
        raise ConfigError(
            f"expected a budget of at least {least:.3f}, the cheapest route's share of the full model's FLOPs, got "
            f"{budget}; {least + _ROUNDING / 2:.3f} would work"
        )
    at = (min(max(budget, least), most) - least) / max(most - least, 1e-12) * (len(budgets) - 1)
    knot = min(int(at), len(budgets) - 2)
    low, high = float(prices[knot]), float(prices[knot + 1])
    return low + (at - knot) * (high - low)


@dataclass(frozen=True, slots=True)
class Pricing:
    """Every user takes the route with the best score at the price of compute; see `routing.dial`.

    Attributes:
        routes: The K routes.
        costs: float32 [T + 1, K], cost of every route by the length of a history.
        budgets: float64 [G], mean costs that were solved, ascending.
        prices: float64 [G], their lambdas.
        usual: The lambda where no budget is asked for.
    """

    routes: tuple[Route, ...]
    costs: np.ndarray
    budgets: np.ndarray
    prices: np.ndarray
    usual: float

    def price(self, budget: float | None) -> float:
        """The lambda of a budget, or the usual one.

        Raises:
            ConfigError: The budget is below what the cheapest route costs.
        """
        return self.usual if budget is None else price_of(self.budgets.tolist(), self.prices.tolist(), budget)

    def span(self) -> tuple[float, float, float]:
        """The least budget, that of the usual price, and the largest."""
        usual = float(np.interp(-self.usual, -self.prices, self.budgets))  # prices fall as budgets rise
        return float(self.budgets[0]), usual, float(self.budgets[-1])

    def choose(self, scores: np.ndarray, lengths: np.ndarray, budget: float | None) -> list[Route]:
        """The routes of users with route scores float32 [B, K] and ``lengths`` int64 [B].

        Raises:
            ConfigError: The budget is below what the cheapest route costs.
        """
        price = self.price(budget)
        costs = self.costs[np.minimum(lengths, len(self.costs) - 1)]
        return [self.routes[i] for i in (scores - np.float32(price) * costs).argmax(1)]
