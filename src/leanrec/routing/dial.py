"""The budget dial: one trained model serves any mean cost.

    route = argmax_k ( score_k - lambda * cost_k )

with one lambda per budget, found on validation users. The score is what a router gives a route: log p_k, up to a constant of the
user, where a softmax trained it, or the gain it expects. The rule is the Lagrangian of "best expected quality at this mean cost":
where one more unit of compute buys more than lambda it is spent, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import torch
from torch import Tensor, nn

from leanrec.core.pricing import price_of
from leanrec.core.recommender import HeldOut
from leanrec.core.types import FULL, Route

Budget = Annotated[float, msgspec.Meta(ge=0, lt=1)] | Literal["auto"]
"""Default mean cost, as a share of the whole model's FLOPs. 0 takes the router's favourite route, "auto" `AUTO` of
the way from the cheapest route to the whole model: where the head of a large catalogue makes the cheapest route dear, a fixed
share would send everybody there."""
AUTO = 0.3
KNOTS = 129
"""Budgets whose prices are solved; those between are interpolated."""
_HALVINGS = 60

Mean = Literal["total", "request"]
"""What a mean cost is taken over: all FLOPs, or each request's share; see `CostTable`."""


class CostTable(nn.Module):
    """Cost of every route by the length of a history, as a share of the whole model's FLOPs. Linear between powers of two.

    What a route gains a user hardly depends on the length of the history, what it costs does. Where a budget is a mean of the
    total, large routes go to short histories first: these cost less. That saves throughput, and little of a user's own latency,
    to which a block adds about as much for a short history as for a long one; that is what a mean over requests saves.

    Args:
        longest: Longest history T.
        routes: K.
        mean: "total" relates a cost to the whole model's mean over all histories, so that a mean cost is a share of all FLOPs;
            "request" to the whole model on a history of that length, so that it is the mean of what every request saves.
    """

    table: Tensor
    lengths: Tensor
    every: Tensor

    def __init__(self, longest: int, routes: int, mean: Mean = "total") -> None:
        super().__init__()
        self.mean: Mean = mean
        lengths = [2**i for i in range(longest.bit_length()) if 2**i < longest] + [longest]
        self.register_buffer("lengths", torch.tensor(lengths, dtype=torch.float32), persistent=False)
        self.register_buffer("table", torch.zeros(len(lengths), routes))
        self.register_buffer("every", torch.zeros(longest + 1, routes), persistent=False)
        self.register_load_state_dict_post_hook(lambda module, keys: module._spread())

    def fit(self, held_out: HeldOut, routes: Sequence[Route], lengths: Tensor) -> None:
        """Count all routes, routing included, and relate them to the whole model on histories with ``lengths`` [U]."""
        steps = [int(length) for length in self.lengths]
        rows = [[held_out.flops(n, route) + held_out.routing(n) for route in routes] for n in steps]
        flops = torch.tensor(rows, device=self.table.device)
        whole = torch.tensor([[held_out.flops(n, FULL)] for n in steps], dtype=torch.float64, device=self.table.device)
        self.table.copy_(flops / (whole if self.mean == "request" else self._between(whole, lengths).mean()))
        self._spread()

    def forward(self, lengths: Tensor) -> Tensor:
        """Costs [B, K] of histories with ``lengths`` int64 [B]."""
        return self.every[lengths.clamp(max=len(self.every) - 1)]

    def _spread(self) -> None:
        """Interpolate for every length beforehand, so that a request only looks its cost up."""
        self.every.copy_(self._between(self.table, torch.arange(len(self.every), device=self.table.device)))

    def _between(self, table: Tensor, lengths: Tensor) -> Tensor:
        lengths = lengths.clamp(max=int(self.lengths[-1])).to(self.lengths.dtype)
        last = len(self.lengths) - 1
        above = torch.searchsorted(self.lengths, lengths).clamp(min(1, last), last)
        below = (above - 1).clamp_min(0)
        span = (self.lengths[above] - self.lengths[below]).clamp_min(1)
        share = ((lengths - self.lengths[below]) / span).to(table.dtype).unsqueeze(-1)
        return table[below] + share * (table[above] - table[below])


class Dial(nn.Module):
    """Prices for budgets between the cheapest and the dearest mean cost.

    Attributes:
        budgets: float64 [G], mean costs that were solved, ascending; the first is the least and the last the most there is.
        prices: float64 [G], their lambdas, descending; negative where a budget asks for more than helps.
    """

    budgets: Tensor
    prices: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("budgets", torch.zeros(KNOTS, dtype=torch.float64))
        self.register_buffer("prices", torch.zeros(KNOTS, dtype=torch.float64))

    def fit(self, scores: Tensor, costs: Tensor) -> None:
        """Solve the prices on users with route scores and costs, both [U, K]."""
        scores, costs = scores.double(), costs.double()
        bound = float((scores.amax(1) - scores.amin(1)).max() / gap(costs)) + 1.0
        least, most = (float(extreme.mean()) for extreme in (costs.amin(1), costs.amax(1)))
        self.budgets.copy_(torch.linspace(least, most, KNOTS, dtype=torch.float64))
        for knot, budget in enumerate(self.budgets.tolist()):
            low, high = -bound, bound
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                low, high = (middle, high) if mean_cost(scores, costs, middle) > budget else (low, middle)
            self.prices[knot] = high

    @property
    def fitted(self) -> bool:
        """Whether `fit` was called."""
        return bool(self.budgets[-1] > 0)

    def span(self) -> tuple[float, float] | None:
        """The least and the largest mean cost that can be asked for; None before `fit`."""
        return (float(self.budgets[0]), float(self.budgets[-1])) if self.fitted else None

    def usual(self, budget: Budget) -> float:
        """The lambda of a configured budget, or of the nearest one there is; 0 for a budget of 0, which asks for no saving."""
        least, most = float(self.budgets[0]), float(self.budgets[-1])
        if budget == "auto":
            return self.price(least + AUTO * (most - least))
        return self.price(max(budget, least)) if budget else 0.0

    def price(self, budget: float) -> float:
        """The lambda of a budget, linear between the solved ones.

        Raises:
            ConfigError: The budget is below what the cheapest route costs.
        """
        return price_of(self.budgets.tolist(), self.prices.tolist(), budget)


def choose(scores: Tensor, costs: Tensor, price: float) -> Tensor:
    """Routes int64 [U] that maximise score - price * cost, of [U, K] both."""
    return (scores - price * costs).argmax(1)


def mean_cost(scores: Tensor, costs: Tensor, price: float) -> float:
    """Mean cost of the routes chosen at a price."""
    return float(costs.gather(1, choose(scores, costs, price)[:, None]).mean())


def gap(costs: Tensor) -> float:
    """The smallest difference of two routes' costs for one user, of [U, K]; 1 where all routes cost the same."""
    steps = costs.sort(1).values.diff(dim=1)
    steps = steps[steps > 1e-9]
    return float(steps.min()) if len(steps) else 1.0
