"""A tiny routed run, trained once, against what needs no router."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch

from leanrec.core.errors import ConfigError
from leanrec.core.types import Batch, Route
from leanrec.cost.count import Flops
from leanrec.data.batches import Questions
from leanrec.data.simulate import KINDS
from leanrec.data.store import Store
from leanrec.evaluate.controls import RouteTable
from leanrec.evaluate.metrics import METRICS, gains
from leanrec.tasks import Evaluation, Part, RoutedPart, controls_of, curve, evaluate_run, groups_of, rank_part
from leanrec.tasks.controls import CURVE
from unit.tasks.routed import BUDGET, SHAPE, Trained, dearer_is_better, given_gains


@pytest.mark.parametrize("part", ["valid", "test"])
def test_every_column_is_a_fixed_route(trained: Trained, part: Part) -> None:
    found = trained.part(part)
    assert found.routes == trained.run.model.all_routes() and len(found.routes) == 6
    for k, route in enumerate(found.routes):

        def always(batch: Batch, route: Route = route) -> list[Route]:
            return [route] * batch.size

        ranking = rank_part(trained.run.model, trained.store, found.asked, routes=always)
        assert set(ranking.routes) == {route}
        np.testing.assert_array_equal(found.ranks[:, k], ranking.ranks)


def test_ranks_of_some_users_by_hand(trained: Trained) -> None:
    model, store = trained.run.model, trained.store
    for part in (trained.valid, trained.test):
        for row in range(0, len(part.asked.users), 24):
            user, at = part.asked.users[row], part.asked.position[row]
            history = torch.from_numpy(store.items[store.offsets[user] : at][-SHAPE["max_length"] :].astype(np.int64))
            batch = Batch(history[None], torch.tensor([len(history)]))
            for k, route in enumerate(part.routes):
                with torch.inference_mode():
                    scores = model.score(batch, route)[0]
                assert part.ranks[row, k] == int((scores >= scores[store.items[at] - 1]).sum())


@pytest.mark.parametrize("part", ["valid", "test"])
def test_the_table_holds_what_each_user_gains_and_costs(trained: Trained, part: Part) -> None:
    found, flops = trained.part(part), Flops(trained.run.model)
    lengths = np.minimum(found.asked.position - trained.store.offsets[found.asked.users], SHAPE["max_length"])
    assert len(set(lengths)) > 5
    for row, steps in list(enumerate(lengths))[::8]:
        assert found.table.costs[row].tolist() == [flops.request(steps, route) for route in found.routes]
        assert (found.table.routing[row], found.table.full[row]) == (flops.routing(steps), flops.request(steps))
    np.testing.assert_array_equal(found.table.gains, gains("ndcg@10", found.ranks))
    assert found.table.ratio(np.eye(6)[-1]) == 1.0


def test_seen_items_can_be_left_out(trained: Trained) -> None:
    left = RoutedPart(trained.run, trained.store, "test", exclude_seen=True)
    evaluation = evaluate_run(trained.run, trained.store, "test", exclude_seen=True, budget=0.5)
    chosen = left.chosen(0.5).argmax(1)
    np.testing.assert_array_equal(np.take_along_axis(left.ranks, chosen[:, None], 1)[:, 0], evaluation.ranking.ranks)
    assert (left.ranks != trained.test.ranks).any()


def test_a_part_can_be_thinned(trained: Trained) -> None:
    thin = RoutedPart(trained.run, trained.store, "valid", most=50)
    rows = np.flatnonzero(np.isin(trained.valid.asked.users, thin.asked.users))
    assert len(rows) == len(thin.ranks) == 50 and (rows[0], rows[-1]) == (0, len(trained.valid.ranks) - 1)
    np.testing.assert_array_equal(thin.ranks, trained.valid.ranks[rows])
    np.testing.assert_array_equal(thin.table.costs, trained.valid.table.costs[rows])
    np.testing.assert_array_equal(thin.chosen(0.5), trained.valid.chosen(0.5)[rows])


def test_progress_is_told_of_every_route(trained: Trained) -> None:
    told: dict[str, tuple[int, int]] = {}

    def note(stage: str, done: int, total: int) -> None:
        told[stage] = (done, total)

    part = RoutedPart(trained.run, trained.store, "valid", progress=note)
    users = len(part.routes) * len(part.asked.users)
    assert told == {"valid, every route": (users, users)}


def test_a_plain_run_is_refused(trained: Trained) -> None:
    message = (
        f"expected a model with a choice of routes, got one with a single route in {trained.plain.path}; "
        "train it with a technique that has a router, such as --technique canet"
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        RoutedPart(trained.plain, trained.store, "valid")


@pytest.mark.parametrize("budget", [None, 0.35, 0.6, 0.9])
@pytest.mark.parametrize("part", ["valid", "test"])
def test_the_learned_policy_is_what_evaluation_takes(trained: Trained, part: Part, budget: float | None) -> None:
    found = trained.part(part)
    evaluation = evaluate_run(trained.run, trained.store, part, budget=budget)
    policy = found.chosen(budget)
    chosen = policy.argmax(1)
    assert (policy.sum(1) == 1).all()
    assert [found.routes[k] for k in chosen] == evaluation.ranking.routes
    np.testing.assert_array_equal(np.take_along_axis(found.ranks, chosen[:, None], 1)[:, 0], evaluation.ranking.ranks)
    assert found.metrics(policy) == pytest.approx(evaluation.metrics)
    assert found.table.ratio(policy, routed=True) == pytest.approx(evaluation.flops_ratio)


def test_the_router_looks_at_the_user(trained: Trained, learned: Evaluation) -> None:
    assert len(learned.route_shares()) > 2  # the other tests would mean little with one route for everyone


def test_only_budgets_above_the_cheapest_route_can_be_asked_for(trained: Trained) -> None:
    reach = trained.run.model.budgets()
    assert reach is not None and 0 < reach[0] < 1
    assert trained.valid.budgets((reach[0] - 0.01, reach[0], 0.7, 1.0)) == [reach[0], 0.7, 1.0]


def test_the_curve_has_every_budget_within_reach(trained: Trained) -> None:
    points = curve(trained.valid)
    assert [point["budget"] for point in points] == trained.valid.budgets(CURVE)
    assert len(points) >= 6
    for point in points:
        assert point.keys() == {"budget", "flops_ratio", *METRICS}
        policy = trained.valid.chosen(point["budget"])
        assert point["flops_ratio"] == trained.valid.table.ratio(policy, routed=True)
        assert point["ndcg@10"] == trained.valid.metrics(policy)["ndcg@10"]
    ratios = [point["flops_ratio"] for point in points]
    assert ratios == sorted(ratios)


def test_the_curve_keeps_its_budgets_on_histories_with_the_validation_event(trained: Trained) -> None:
    """Of the users on whom prices were solved; others are a sample of their own."""
    part = copy.copy(trained.test)
    fitted = np.isin(part.asked.users, trained.run.split(trained.store).targets("fit")[0])
    part.table = RouteTable(*(getattr(part.table, name)[fitted] for name in ("gains", "costs", "routing", "full")))
    for point in curve(trained.test):
        ratio = part.table.ratio(trained.test.chosen(point["budget"])[fitted], routed=True)
        assert ratio == pytest.approx(point["budget"], rel=0.03)
        assert point["flops_ratio"] == pytest.approx(point["budget"], rel=0.1)


def test_a_point_of_the_curve_is_that_evaluation(trained: Trained, learned: Evaluation) -> None:
    point = next(point for point in curve(trained.test) if point["budget"] == 0.5)
    assert point == pytest.approx({"budget": 0.5, "flops_ratio": learned.flops_ratio, **learned.metrics})


@pytest.fixture(scope="module")
def controls(trained: Trained, learned: Evaluation) -> dict[str, dict]:
    alone = {"full": evaluate_run(trained.plain, trained.store, "test"), "small": learned}
    return controls_of(trained.test, trained.valid, BUDGET, alone, groups_of(trained.store))


def test_controls_and_their_fields(trained: Trained, learned: Evaluation, controls: dict[str, dict]) -> None:
    assert controls.keys() == {"learned", "whole", "static", "matched", "uniform", "oracle", "full", "small"}
    assert controls["learned"]["metrics"] == pytest.approx(learned.metrics)
    assert controls["learned"]["flops_ratio"] == pytest.approx(learned.flops_ratio)
    for name, control in list(controls.items())[1:]:
        alone = name in ("full", "small")
        assert list(control) == ["metrics", "flops_ratio", "lead", *([] if alone else ["routes"])]
        assert tuple(control["metrics"]) == METRICS
        lead, low, high = control["lead"]
        assert low <= lead <= high
        assert lead == pytest.approx(learned.metrics["ndcg@10"] - control["metrics"]["ndcg@10"])
        if not alone:
            assert sum(control["routes"].values()) == pytest.approx(1)
            assert all(0 < share <= 1 + 1e-9 for share in control["routes"].values())
            assert control["routes"].keys() <= {str(route) for route in trained.test.routes}


def test_without_groups_there_is_no_oracle_and_without_models_none_alone(trained: Trained) -> None:
    found = controls_of(trained.test, trained.valid, BUDGET, {})
    assert list(found) == ["learned", "whole", "static", "matched", "uniform"]


def test_the_whole_network_is_the_last_route(trained: Trained, controls: dict[str, dict]) -> None:
    assert controls["whole"]["routes"] == {"full": 1.0}
    assert controls["whole"]["flops_ratio"] == 1.0
    assert controls["whole"]["metrics"]["ndcg@10"] == trained.test.table.gains[:, -1].mean()


def test_the_best_static_route_is_chosen_on_validation_users_for_the_learned_cost(
    trained: Trained, learned: Evaluation
) -> None:
    valid, test = dearer_is_better(trained.valid), given_gains(trained.test, np.array([1.0, 0, 0, 0, 0, 0]))
    static = controls_of(test, valid, BUDGET, {})["static"]
    names = [str(route) for route in valid.routes]
    policy = np.array([static["routes"].get(name, 0.0) for name in names])
    assert np.count_nonzero(policy) <= 2
    assert valid.table.ratio(policy) == pytest.approx(learned.flops_ratio)  # not the route that is best on test users


def test_matched_routes_are_the_learned_ones_without_the_user(
    trained: Trained, learned: Evaluation, controls: dict[str, dict]
) -> None:
    matched = controls["matched"]
    assert matched["routes"] == pytest.approx(learned.route_shares())
    costs = trained.test.table.costs.mean(0) / trained.test.table.full.mean()
    shares = [matched["routes"].get(str(route), 0) for route in trained.test.routes]
    assert matched["flops_ratio"] == pytest.approx(np.dot(shares, costs))
    assert matched["flops_ratio"] == pytest.approx(learned.flops_ratio, abs=0.15)  # long histories take other routes
    by_hand = [
        sum(matched["routes"].get(str(route), 0) * row[k] for k, route in enumerate(trained.test.routes))
        for row in trained.test.table.gains
    ]
    assert matched["metrics"]["ndcg@10"] == pytest.approx(np.mean(by_hand))


def test_uniform_routes_are_all_alike(trained: Trained, controls: dict[str, dict]) -> None:
    assert list(controls["uniform"]["routes"].values()) == pytest.approx([1 / 6] * 6)
    assert controls["uniform"]["metrics"]["ndcg@10"] == pytest.approx(trained.test.table.gains.mean())


def test_models_alone_are_what_was_given(trained: Trained, learned: Evaluation, controls: dict[str, dict]) -> None:
    full = evaluate_run(trained.plain, trained.store, "test")
    assert controls["full"]["metrics"] == full.metrics
    assert controls["full"]["flops_ratio"] == pytest.approx(1)
    assert controls["small"]["lead"] == [0.0, 0.0, 0.0]
    assert controls["small"]["flops_ratio"] == pytest.approx(learned.flops_ratio)


def test_fewer_users_can_be_compared_than_were_evaluated(trained: Trained) -> None:
    thin = RoutedPart(trained.run, trained.store, "test", most=50)
    rows = np.isin(trained.test.asked.users, thin.asked.users)
    everyone = evaluate_run(trained.plain, trained.store, "test")
    full = controls_of(thin, trained.valid, BUDGET, {"full": everyone})["full"]
    ours = trained.test.table.expected(trained.test.chosen(BUDGET))[rows]
    theirs = gains("ndcg@10", everyone.ranking.ranks[rows])
    assert full["metrics"]["ndcg@10"] == pytest.approx(theirs.mean())
    assert full["lead"][0] == pytest.approx((ours - theirs).mean())
    assert full["flops_ratio"] == pytest.approx(1)


@pytest.mark.parametrize("budget", [0.35, 0.5, 0.8])
def test_on_validation_users_the_oracle_is_no_worse_than_the_best_static_route(trained: Trained, budget: float) -> None:
    evaluation = evaluate_run(trained.run, trained.store, "valid", budget=budget)
    found = controls_of(trained.valid, trained.valid, budget, {}, groups_of(trained.store))
    for control in ("static", "oracle"):
        assert found[control]["flops_ratio"] <= evaluation.flops_ratio + 0.02  # means of groups, not of each user
    assert found["oracle"]["metrics"]["ndcg@10"] >= found["static"]["metrics"]["ndcg@10"] - 1e-9
    assert found["static"]["metrics"]["ndcg@10"] >= trained.valid.table.gains[:, 0].mean() - 1e-9


def test_the_oracle_gives_each_kind_its_own_route(trained: Trained) -> None:
    groups = groups_of(trained.store)
    assert groups is not None
    wants = np.where(groups == 0, 0, 5)  # one kind gains on the smallest route, the others on the whole network

    def as_wanted(part: RoutedPart) -> RoutedPart:
        return given_gains(part, np.eye(6)[wants[part.asked.users]])

    test, valid = as_wanted(trained.test), as_wanted(trained.valid)
    oracle = controls_of(test, valid, 0.95, {}, groups)["oracle"]
    share = float((groups[test.asked.users] == 0).mean())
    assert oracle["routes"] == pytest.approx({str(test.routes[0]): share, "full": 1 - share})


def test_a_kind_without_validation_users_takes_the_routes_of_an_average_one(trained: Trained) -> None:
    valid = copy.copy(trained.valid)
    some = slice(0, 100)
    valid.asked = Questions(valid.asked.users[some], valid.asked.position[some])
    table = valid.table
    valid.table = RouteTable(table.gains[some], table.costs[some], table.routing[some], table.full[some])
    groups = np.zeros(trained.store.num_users, np.int64)
    groups[150:] = 1
    assert "oracle" in controls_of(trained.test, valid, BUDGET, {}, groups)


def test_kinds_are_known_where_a_store_was_simulated(trained: Trained, tiny_store: Store) -> None:
    groups = groups_of(trained.store)
    kinds = trained.store.users_table()["kind"].to_list()
    assert groups is not None
    assert {(kind, int(group)) for kind, group in zip(kinds, groups, strict=True)} == {
        (kind, index) for index, kind in enumerate(sorted(KINDS))
    }
    assert groups_of(tiny_store) is None


def test_routes_of_each_user_are_in_order(trained: Trained) -> None:
    users = trained.test.asked.users

    def by_user(batch: Batch) -> list[Route]:
        assert batch.users is not None
        return [trained.test.routes[user % 6] for user in batch.users.tolist()]

    ranking = rank_part(trained.run.model, trained.store, trained.test.asked, routes=by_user)
    assert ranking.routes == [trained.test.routes[user % 6] for user in users]
    np.testing.assert_array_equal(ranking.ranks, np.take_along_axis(trained.test.ranks, (users % 6)[:, None], 1)[:, 0])
