"""Controls: what a saving would look like without looking at the user.

Every policy here is a distribution over routes, [U, K]. From the gain and the cost of every user on every route its expected
quality and cost follow exactly, without drawing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Every user of a part on every route.

    Attributes:
        gains: float [U, K], a metric of each user on each route.
        costs: float [U, K], FLOPs of the request, routing left out.
        routing: float [U], FLOPs of choosing a route.
        full: float [U], FLOPs of the whole model.
    """

    gains: np.ndarray
    costs: np.ndarray
    routing: np.ndarray
    full: np.ndarray

    def expected(self, policy: np.ndarray) -> np.ndarray:
        """Expected gain of each user, float [U], under a policy [U, K] or one for all users [K]."""
        return (self.gains * policy).sum(1)

    def ratio(self, policy: np.ndarray, routed: bool = False) -> float:
        """Mean FLOPs under a policy as a share of the whole model's; with ``routed`` the router is paid for."""
        spent = (self.costs * policy).sum(1) + (self.routing if routed else 0)
        return float(spent.mean() / self.full.mean())


def one_hot(chosen: np.ndarray, routes: int) -> np.ndarray:
    """The policy [U, K] of routes int64 [U] that were chosen."""
    return np.eye(routes)[chosen]


def matched(policy: np.ndarray) -> np.ndarray:
    """float [K], the frequencies of a policy [U, K], for users drawn at random."""
    return policy.mean(0)


def best_policy(table: RouteTable, groups: np.ndarray, budget: float, count: int | None = None) -> np.ndarray:
    """The best policy that knows only a user's group and keeps a mean cost: float [G, K].

    It is the linear program "most gain at this cost", solved by its Lagrangian; only groups that are indifferent between two
    routes mix them. With one group for everyone it is the best static route of that cost, or the best mix of two.

    Args:
        table: Users to choose on.
        groups: int64 [U], each user's group 0..G-1.
        budget: Mean cost as a share of the whole model's. Below the cheapest routes these are taken.
        count: G, where some groups may have no user here; these get the policy of an average user.
    """
    count = count or int(groups.max()) + 1
    weight = np.bincount(groups, minlength=count) / len(groups)
    gains, costs = (
        np.stack([values[groups == g].mean(0) if (groups == g).any() else values.mean(0) for g in range(count)])
        for values in (table.gains, table.costs / table.full.mean())
    )

    def solve(price: float) -> np.ndarray:
        value = gains - price * costs
        tied = value >= value.max(1, keepdims=True) - _SLACK
        cheapest = np.where(tied, costs, np.inf).argmin(1)
        return one_hot(cheapest, gains.shape[1])

    def spent(policy: np.ndarray) -> float:
        return float(((policy * costs).sum(1) * weight).sum())

    if spent(solve(0.0)) <= budget:
        return solve(0.0)
    low, high = 0.0, 1.0
    while spent(solve(high)) > budget and high < 1e9:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(solve(middle)) > budget else (low, middle)
    dear, cheap = solve(low), solve(high)
    over = spent(dear) - spent(cheap)
    share = np.clip((budget - spent(cheap)) / over, 0, 1) if over > 0 else 0.0
    return share * dear + (1 - share) * cheap


def difference(ours: np.ndarray, theirs: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean of ours - theirs over the same users, float [U] both, and its 95 % bootstrap interval."""
    gap = ours - theirs
    rng = np.random.default_rng(seed)
    means = np.array([gap[rng.integers(len(gap), size=len(gap))].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(gap.mean()), float(low), float(high)
