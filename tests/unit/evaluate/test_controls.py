from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.evaluate import controls as module
from leanrec.evaluate.controls import RouteTable, best_policy, difference, matched, one_hot


def table_of(gains: np.ndarray, costs: np.ndarray, routing: float = 0.0) -> RouteTable:
    """A table [U, K] whose last route is the whole model."""
    return RouteTable(gains, costs, np.full(len(gains), routing), costs[:, -1].copy())


def random_table(seed: int, users: int, routes: int, levels: int) -> RouteTable:
    """Random gains and costs; few levels make ties of gains and of costs."""
    rng = np.random.default_rng(seed)
    return table_of(
        rng.integers(0, levels + 1, (users, routes)) / levels, rng.integers(1, levels + 1, (users, routes)) * 1e6
    )


def spent(table: RouteTable, policy: np.ndarray, groups: np.ndarray) -> float:
    return table.ratio(policy[groups])


def gained(table: RouteTable, policy: np.ndarray, groups: np.ndarray) -> float:
    return float(table.expected(policy[groups]).mean())


def optimum(table: RouteTable, groups: np.ndarray, budget: float) -> tuple[float, float]:
    """Most gain within the budget, over all ways to give each group one route and all mixes of two of them; the least cost."""
    count, routes = int(groups.max()) + 1, table.gains.shape[1]
    ways = np.array(list(itertools.product(range(routes), repeat=count)))
    points = [(spent(table, one_hot(way, routes), groups), gained(table, one_hot(way, routes), groups)) for way in ways]
    kept = [(cost, gain) for cost, gain in points if cost <= budget]
    over = [(cost, gain) for cost, gain in points if cost > budget]
    mixed = [gain + (budget - cost) / (dearer - cost) * (more - gain) for cost, gain in kept for dearer, more in over]
    return max([gain for _, gain in kept] + mixed, default=-np.inf), min(cost for cost, _ in points)


@given(
    seed=st.integers(0, 2**32 - 1),
    users=st.integers(1, 12),
    routes=st.integers(1, 4),
    groups=st.integers(1, 3),
    levels=st.sampled_from([2, 5, 10**6]),
    budget=st.floats(0.0, 1.6),
)
@settings(max_examples=300)
def test_no_policy_of_groups_gains_more_for_the_budget(
    seed: int, users: int, routes: int, groups: int, levels: int, budget: float
) -> None:
    table = random_table(seed, users, routes, levels)
    member = np.random.default_rng(seed).integers(0, groups, users)
    policy = best_policy(table, member, budget)
    assert policy.shape == (member.max() + 1, routes)
    assert (policy >= 0).all()
    np.testing.assert_allclose(policy.sum(1), 1)
    most, least = optimum(table, member, budget)
    if least > budget:
        assert spent(table, policy, member) == pytest.approx(least)
    else:
        assert spent(table, policy, member) <= budget + 1e-9
        assert gained(table, policy, member) == pytest.approx(most, abs=1e-6)


@given(seed=st.integers(0, 2**32 - 1), routes=st.integers(1, 12), budget=st.floats(0.01, 1.5))
def test_everyone_together_mixes_at_most_two_routes(seed: int, routes: int, budget: float) -> None:
    policy = best_policy(random_table(seed, 9, routes, 10**6), np.zeros(9, np.int64), budget)
    assert policy.shape == (1, routes)
    assert 1 <= np.count_nonzero(policy) <= 2


def test_a_budget_between_two_routes_is_spent_on_both() -> None:
    table = table_of(np.array([[0.1, 0.5, 0.4]] * 4), np.array([[10.0, 20.0, 40.0]] * 4))
    everyone = np.zeros(4, np.int64)
    np.testing.assert_allclose(best_policy(table, everyone, 0.375), [[0.5, 0.5, 0]])
    np.testing.assert_allclose(best_policy(table, everyone, 0.5), [[0, 1, 0]])
    np.testing.assert_array_equal(best_policy(table, everyone, 1.0), [[0, 1, 0]])  # more would buy less


def test_compute_goes_to_the_group_that_gains_by_it() -> None:
    table = table_of(np.array([[0.5, 0.5], [0.5, 0.5], [0.1, 0.9], [0.1, 0.9]]), np.array([[1.0, 4.0]] * 4))
    policy = best_policy(table, np.array([0, 0, 1, 1]), 0.625)
    np.testing.assert_allclose(policy, [[1, 0], [0, 1]])


def test_groups_weigh_as_much_as_they_have_members() -> None:
    gains = np.array([[0.0, 1.0]] * 4 + [[0.0, 0.9]])
    policy = best_policy(table_of(gains, np.array([[1.0, 2.0]] * 5)), np.array([0, 0, 0, 0, 1]), 0.9)
    np.testing.assert_allclose(policy, [[0, 1], [1, 0]])


@pytest.mark.parametrize("budget", [0.0, 0.1, 0.24])
def test_below_the_cheapest_route_everyone_takes_it(budget: float) -> None:
    table = table_of(np.array([[0.1, 0.0, 0.9]] * 4), np.array([[15.0, 10.0, 40.0]] * 4))
    policy = best_policy(table, np.array([0, 0, 1, 1]), budget)
    np.testing.assert_array_equal(policy, [[0, 1, 0], [0, 1, 0]])


@pytest.mark.parametrize("budget", [0.0, 0.5, 1.0])
def test_a_group_without_a_member_has_a_policy(budget: float) -> None:
    table = random_table(0, 6, 3, 10)
    groups = np.array([0, 0, 2, 2, 4, 4])
    policy = best_policy(table, groups, budget)
    assert policy.shape == (5, 3)
    np.testing.assert_allclose(policy.sum(1), 1)
    _, packed = np.unique(groups, return_inverse=True)
    np.testing.assert_allclose(
        policy[[0, 2, 4]], best_policy(table, packed, budget)
    )  # it changes nothing for the others


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bootstraps of 300 samples, where many intervals are drawn."""
    monkeypatch.setattr(module, "RESAMPLES", 300)


@pytest.mark.usefixtures("few_samples")
def test_the_interval_of_a_difference_covers_a_known_mean() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        theirs = rng.random(80)
        mean, low, high = difference(theirs + rng.normal(0.1, 0.3, 80), theirs, seed=trial)
        assert low < mean < high
        covered += low <= 0.1 <= high
    assert 88 <= covered <= 99


def test_an_interval_narrows_with_the_root_of_the_users() -> None:
    gap = np.random.default_rng(0).normal(0.0, 1.0, 6400)
    few, many = (difference(gap[:users], np.zeros(users)) for users in (100, 6400))
    assert (few[2] - few[1]) / (many[2] - many[1]) == pytest.approx(8, rel=0.3)
    assert many[2] - many[1] == pytest.approx(2 * 1.96 / 80, rel=0.1)


def test_users_are_compared_with_themselves() -> None:
    theirs = np.random.default_rng(0).random(50)
    assert difference(theirs, theirs) == (0.0, 0.0, 0.0)
    assert difference(theirs + 0.25, theirs) == pytest.approx((0.25, 0.25, 0.25))
    assert difference(theirs, theirs + 0.25)[0] == pytest.approx(-0.25)


def test_a_seed_decides_the_interval() -> None:
    ours, theirs = np.random.default_rng(0).random((2, 50))
    assert difference(ours, theirs) == difference(ours, theirs, seed=0) != difference(ours, theirs, seed=1)


@pytest.mark.parametrize("routed", [False, True])
def test_expected_gain_and_ratio_against_loops(routed: bool) -> None:
    rng = np.random.default_rng(0)
    gains, costs = rng.random((2, 7, 3))
    table = RouteTable(gains, costs, rng.random(7), rng.random(7))
    policy = rng.dirichlet(np.ones(3), 7)
    gain = [sum(policy[u, k] * gains[u, k] for k in range(3)) for u in range(7)]
    paid = [sum(policy[u, k] * costs[u, k] for k in range(3)) + routed * table.routing[u] for u in range(7)]
    np.testing.assert_allclose(table.expected(policy), gain)
    assert table.ratio(policy, routed) == pytest.approx(sum(paid) / sum(table.full))
    for_all = np.broadcast_to(policy[0], (7, 3))
    np.testing.assert_allclose(table.expected(policy[0]), table.expected(for_all))
    assert table.ratio(policy[0], routed) == pytest.approx(table.ratio(for_all, routed))


def test_routes_are_free_of_routing_unless_it_is_asked_for() -> None:
    table = table_of(np.zeros((2, 2)), np.array([[1.0, 4.0]] * 2), routing=2.0)
    assert table.ratio(np.array([1.0, 0.0])) == 0.25
    assert table.ratio(np.array([1.0, 0.0]), routed=True) == 0.75


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_matched_frequencies_are_those_of_the_routes_taken(chosen: list[int]) -> None:
    policy = one_hot(np.array(chosen), 4)
    assert policy.shape == (len(chosen), 4)
    assert [int(row.argmax()) for row in policy] == chosen
    assert (policy.sum(1) == 1).all() and (policy.max(1) == 1).all()
    np.testing.assert_allclose(matched(policy), [chosen.count(k) / len(chosen) for k in range(4)])
