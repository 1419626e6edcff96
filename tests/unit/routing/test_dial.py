"""The budget dial on made-up scores and costs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.core.recommender import HeldOut
from leanrec.core.types import FULL, Route
from leanrec.routing import dial
from leanrec.routing.dial import CostTable, Dial, Mean, choose, mean_cost

FEW = 9


@contextmanager
def few_knots() -> Iterator[None]:
    """So few that many problems can be solved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dial, "KNOTS", FEW)
        yield


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Scores and costs [U, K] without ties."""
    shape = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    torch.manual_seed(draw(st.integers(0, 9999)))
    return torch.randn(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64) + 0.01


def solved(scores: Tensor, costs: Tensor) -> Dial:
    found = Dial()
    found.fit(scores, costs)
    return found


@given(problems())
@settings(max_examples=40)
def test_at_a_knot_the_mean_cost_is_the_budget_but_for_one_users_step(problem: tuple[Tensor, Tensor]) -> None:
    scores, costs = problem
    with few_knots():
        found = solved(scores, costs)
    step = float((costs.amax(1) - costs.amin(1)).max()) / len(costs)
    for budget, price in zip(found.budgets.tolist(), found.prices.tolist(), strict=True):
        spent = mean_cost(scores, costs, price)
        assert budget - step - 1e-9 <= spent <= budget + 1e-9


@given(problems())
@settings(max_examples=20)
def test_knots_go_from_the_least_to_the_most_there_is(problem: tuple[Tensor, Tensor]) -> None:
    scores, costs = problem
    with few_knots():
        found = solved(scores, costs)
        least, most = float(found.budgets[0]), float(found.budgets[-1])
        cheapest, dearest = found.price(least), found.price(9.0)
    assert least == pytest.approx(float(costs.amin(1).mean())) == mean_cost(scores, costs, cheapest)
    assert most == pytest.approx(float(costs.amax(1).mean())) == mean_cost(scores, costs, dearest)


@given(problems(), st.lists(st.floats(0, 1), min_size=2, max_size=6))
@settings(max_examples=20)
def test_a_larger_budget_has_a_lower_price_and_buys_more(problem: tuple[Tensor, Tensor], at: list[float]) -> None:
    scores, costs = problem
    with few_knots():
        found = solved(scores, costs)
        least, most = float(found.budgets[0]), float(found.budgets[-1])
        budgets = sorted(least + share * (most - least) for share in at)
        prices = [found.price(budget) for budget in budgets]
    assert all(high - low > -1e-12 * abs(high) for high, low in pairwise(prices))
    assert (found.prices.diff() <= 0).all()
    spent = [mean_cost(scores, costs, price) for price in prices]
    step = float((costs.amax(1) - costs.amin(1)).max()) / len(costs) + 1e-9
    assert all(small <= large + step for small, large in pairwise(spent))
    between = (most - least) / (FEW - 1)
    assert all(cost <= budget + between + step for cost, budget in zip(spent, budgets, strict=True))


def test_prices_between_knots_are_linear() -> None:
    with few_knots():
        found = solved(torch.randn(50, 4), torch.rand(50, 4))
        for knot in range(FEW - 1):
            for share in (0.0, 0.25, 0.9):
                budget, price = (
                    float((1 - share) * values[knot] + share * values[knot + 1])
                    for values in (found.budgets, found.prices)
                )
                assert found.price(budget) == pytest.approx(price, rel=1e-6, abs=1e-9)


def test_a_price_of_zero_takes_the_favourites() -> None:
    scores, costs = torch.randn(200, 4), torch.rand(200, 4)
    found = solved(scores, costs)
    favourite = mean_cost(scores.double(), costs.double(), 0.0)
    below, above = found.price(favourite - 0.02), found.price(favourite + 0.02)
    assert below > 0 > above


def test_users_that_are_alike_move_together_but_never_above_the_budget() -> None:
    scores, costs = torch.tensor([[0.0, 1.0, 1.5]]).repeat(10, 1), torch.tensor([[0.1, 0.5, 1.0]]).repeat(10, 1)
    with few_knots():
        found = solved(scores, costs)
    for budget, price in zip(found.budgets.tolist(), found.prices.tolist(), strict=True):
        best = max(cost for cost in (0.1, 0.5, 1.0) if cost <= budget + 1e-6)
        assert mean_cost(scores, costs, price) == pytest.approx(best)


@pytest.mark.parametrize("costs", [[[0.4, 0.4]], [[1.0]]])
def test_routes_that_cost_the_same_leave_nothing_to_choose(costs: list[list[float]]) -> None:
    found = solved(torch.zeros(1, len(costs[0])), torch.tensor(costs))
    assert found.budgets[0] == found.budgets[-1] == pytest.approx(costs[0][0])
    assert np.isfinite([found.price(costs[0][0]), found.price(2.0), found.usual(0.1)]).all()


@given(problems(), st.floats(-5, 5))
def test_choose_equals_a_loop(problem: tuple[Tensor, Tensor], price: float) -> None:
    scores, costs = problem
    expected = []
    for user in range(len(scores)):
        worth = [float(scores[user, k]) - price * float(costs[user, k]) for k in range(scores.shape[1])]
        expected.append(worth.index(max(worth)))
    assert choose(scores, costs, price).tolist() == expected
    spent = [float(costs[user, k]) for user, k in enumerate(expected)]
    assert mean_cost(scores, costs, price) == pytest.approx(sum(spent) / len(spent))


@given(st.integers(0, 9999))
@settings(max_examples=20)
def test_a_budget_below_the_floor_is_refused_with_one_that_works(seed: int) -> None:
    torch.manual_seed(seed)
    scores, costs = torch.randn(7, 3), torch.rand(7, 3) + 0.05
    with few_knots():
        found = solved(scores, costs)
        floor = float(found.budgets[0])
        message = (
            rf"^expected a budget of at least {floor:.3f}, the cheapest route's share of the full model's FLOPs, got "
            r"0\.01; (0\.\d{3}) would work$"
        )
        with pytest.raises(ConfigError, match=message) as caught:
            found.price(0.01)
        named = re.search(message, str(caught.value))
        assert named is not None
        price = found.price(float(named[1]))
        step = float((costs.amax(1) - costs.amin(1)).max()) / len(costs)
        assert mean_cost(scores.double(), costs.double(), price) <= float(found.budgets[1]) + step
        assert (
            found.price(round(floor, 3)) <= found.price(floor) + 1e-9
        )  # a floor that was read in three digits works too


def test_the_usual_budget_is_the_nearest_or_a_share_of_what_routes_span() -> None:
    with few_knots():
        found = solved(torch.randn(20, 3), torch.rand(20, 3) + 0.05)
        least, most = float(found.budgets[0]), float(found.budgets[-1])
        assert found.usual(0.0) == 0.0
        assert found.usual(least / 2) == found.price(least) == float(found.prices[0])
        assert found.usual(most + 1) == found.price(most) == float(found.prices[-1])
        middle = (least + most) / 2
        assert found.usual(middle) == found.price(middle) != found.price(least)
        assert found.usual("auto") == found.price(least + 0.3 * (most - least)) != found.price(least)


def test_it_is_fitted_once_prices_are_solved_and_survives_saving() -> None:
    found, other = Dial(), Dial()
    assert not found.fitted
    found.fit(torch.randn(20, 3), torch.rand(20, 3) + 0.05)
    assert found.fitted and not other.fitted
    other.load_state_dict(found.state_dict())
    assert other.fitted and other.price(0.5) == found.price(0.5)


ROUTES = (Route(width=4), Route(width=8), FULL)
LENGTHS = torch.tensor([1, 3, 3, 17, 50])


def flops(steps: int, route: Route) -> int:
    return steps * (route.width or 16) ** 2 + 3 * steps**2


def routing(steps: int) -> int:
    return 7 * steps


def fitted(longest: int, lengths: Tensor) -> tuple[CostTable, float]:
    """A table, and the whole model's mean by NumPy."""
    table = CostTable(longest, len(ROUTES))
    table.fit(HeldOut(lambda: (), lambda: (), flops, routing), ROUTES, lengths)
    at = table.lengths.numpy()
    return table, float(np.interp(lengths.numpy(), at, [flops(int(n), FULL) for n in at]).mean())


def test_costs_are_exact_at_the_tables_own_lengths() -> None:
    table, whole = fitted(50, LENGTHS)
    own = [int(length) for length in table.lengths]
    assert own[0] == 1 and own[-1] == 50 and own == sorted(set(own)) and 5 < len(own) < 20
    expected = [[(flops(n, route) + routing(n)) / whole for route in ROUTES] for n in own]
    torch.testing.assert_close(table(torch.tensor(own)), torch.tensor(expected), rtol=1e-6, atol=0)


def test_costs_are_linear_between_lengths_and_cut_above_the_longest() -> None:
    table, whole = fitted(50, LENGTHS)
    asked = torch.tensor([1, 2, 9, 10, 11, 23, 49, 50, 51, 900])
    at = table.lengths.numpy()
    assert not {10, 23} <= {*at.astype(int).tolist()}
    columns = [
        np.interp(asked.numpy(), at, [(flops(int(n), route) + routing(int(n))) / whole for n in at]) for route in ROUTES
    ]
    torch.testing.assert_close(table(asked), torch.from_numpy(np.stack(columns, 1)).float(), rtol=1e-6, atol=0)
    assert torch.equal(table(asked)[-1], table(torch.tensor([50]))[0])


def test_costs_are_shares_of_the_whole_models_mean_without_routing() -> None:
    table, _ = fitted(8, torch.tensor([2, 8]))
    whole = (flops(2, FULL) + flops(8, FULL)) / 2
    assert float(table(torch.tensor([8]))[0, -1]) == pytest.approx((flops(8, FULL) + routing(8)) / whole)
    mean = table(torch.tensor([2, 8]))[:, -1].mean()
    assert float(mean) == pytest.approx(1 + (routing(2) + routing(8)) / 2 / whole)


def test_costs_per_request_are_shares_of_the_whole_model_on_a_history_of_that_length() -> None:
    table = CostTable(50, len(ROUTES), "request")
    table.fit(HeldOut(lambda: (), lambda: (), flops, routing), ROUTES, LENGTHS)
    own = [int(length) for length in table.lengths]
    expected = [[(flops(n, route) + routing(n)) / flops(n, FULL) for route in ROUTES] for n in own]
    torch.testing.assert_close(table(torch.tensor(own)), torch.tensor(expected), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("mean", "chosen"), [("total", [1, 0]), ("request", [1, 1])])
def test_a_mean_of_the_total_gives_large_routes_to_short_histories(mean: Mean, chosen: list[int]) -> None:
    lengths, routes = torch.tensor([4, 50]), (Route(width=4), FULL)
    table = CostTable(50, 2, mean)
    table.fit(HeldOut(lambda: (), lambda: (), flops, lambda steps: 0), routes, lengths)
    gains = torch.tensor([[0.0, 1.0]]).expand(2, 2)  # a user gains as much by the large route, whatever the history
    assert choose(gains, table(lengths), 1.0).tolist() == chosen


def test_histories_of_one_step_only() -> None:
    table, whole = fitted(1, torch.tensor([1, 1]))
    assert table.lengths.tolist() == [1] and whole == flops(1, FULL)
    expected = torch.tensor([[(flops(1, route) + routing(1)) / whole for route in ROUTES]])
    torch.testing.assert_close(table(torch.tensor([1, 5])), expected.repeat(2, 1), rtol=1e-6, atol=0)


def test_a_table_survives_saving() -> None:
    table, _ = fitted(50, LENGTHS)
    other = CostTable(50, len(ROUTES))
    other.load_state_dict(table.state_dict())
    assert torch.equal(other(LENGTHS), table(LENGTHS))
