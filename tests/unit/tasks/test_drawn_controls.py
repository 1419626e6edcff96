"""A tiny run that skips blocks, trained once, against blocks that are drawn without looking at the user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from leanrec.build import OpenRun, open_run
from leanrec.config import parse
from leanrec.core.types import FULL, Route
from leanrec.data.store import Store
from leanrec.evaluate.controls import matched
from leanrec.evaluate.metrics import METRICS, gains, summarise
from leanrec.tasks import RoutedPart, controls_of, evaluate_run, rank_part, run_training
from leanrec.tasks import controls as module
from leanrec.tasks.evaluation import everyone_on
from toys import chain_store
from unit.tasks.routed import TRAIN, Trained

BLOCKS, PATTERNS, BUDGET = 4, 6, 0.6
BACKBONE = {"name": "nextitnet", "width": 8, "layers": BLOCKS, "dilations": [1, 2], "max_length": 10}
SKIPPING = {"skiprec": {"training": "sandwich", "patterns": PATTERNS, "keep": 0.5}}


@dataclass(frozen=True)
class Skipping:
    """A store, a run that skips blocks, and all of its routes."""

    store: Store
    run: OpenRun
    valid: RoutedPart
    test: RoutedPart


@pytest.fixture(scope="module")
def skipping(tmp_path_factory: pytest.TempPathFactory) -> Skipping:
    where = tmp_path_factory.mktemp("skipping")
    store = chain_store(where / "store", users=120, items=40)
    run_training(parse({"backbone": BACKBONE, "technique": SKIPPING, "train": TRAIN}), store.path, where / "run")
    run = open_run(where / "run")
    return Skipping(store, run, RoutedPart(run, store, "valid"), RoutedPart(run, store, "test"))


def test_kept_blocks_are_those_of_the_routes(skipping: Skipping) -> None:
    kept = skipping.test.kept
    assert kept is not None and kept.shape == (PATTERNS, BLOCKS) and kept.dtype == bool
    for route, pattern in zip(skipping.test.routes, kept.tolist(), strict=True):
        assert (tuple(range(BLOCKS)) if route.layers is None else route.layers) == tuple(np.flatnonzero(pattern))
    assert kept[-1].all() and not kept[0].any()


def test_routes_of_different_widths_have_no_kept_blocks(trained: Trained) -> None:
    assert trained.test.kept is None
    assert {"rates", "coin"}.isdisjoint(controls_of(trained.test, trained.valid, 0.5, {}))


def test_all_blocks_kept_is_the_whole_network(skipping: Skipping) -> None:
    ranks, spent = skipping.test.drawn(np.ones(BLOCKS))
    np.testing.assert_array_equal(ranks, skipping.test.ranks[:, -1])
    assert spent == 1.0


@pytest.mark.parametrize("route", [Route(layers=()), Route(layers=(1,)), Route(layers=(0, 3))], ids=str)
def test_sure_blocks_are_a_route(skipping: Skipping, route: Route) -> None:
    assert route.layers is not None
    rates = np.isin(np.arange(BLOCKS), route.layers).astype(float)
    ranks, spent = skipping.test.drawn(rates)
    ranking = rank_part(skipping.run.model, skipping.store, skipping.test.asked, routes=everyone_on(route))
    np.testing.assert_array_equal(ranks, ranking.ranks)
    flops = [skipping.run.flops.request(int(steps), route) for steps in skipping.test.lengths]
    assert spent == pytest.approx(np.mean(flops) / skipping.test.table.full.mean())
    assert 0 < spent < 1


def test_a_draw_is_decided_by_its_seed(skipping: Skipping) -> None:
    rates = np.array([0.9, 0.2, 0.5, 0.5])
    (first, spent), (again, same_spent) = skipping.test.drawn(rates), skipping.test.drawn(rates, seed=0)
    other, other_spent = skipping.test.drawn(rates, seed=1)
    np.testing.assert_array_equal(first, again)
    assert spent == same_spent
    assert (other != first).any() and other_spent != spent


def noted_routes(part: RoutedPart, rates: np.ndarray) -> tuple[list[Route], np.ndarray]:
    """The route of every user of a draw, and the ranks."""
    taken: list[Route] = []

    def rank(*arguments: object) -> object:
        ranking = rank_part(*arguments)  # type: ignore[arg-type]
        taken.extend(ranking.routes)
        return ranking

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "rank_part", rank)
        ranks, _ = part.drawn(rates)
    return taken, ranks


def test_every_user_has_a_pattern_of_its_own_at_the_wanted_rates(skipping: Skipping) -> None:
    rates = np.array([1.0, 0.7, 0.3, 0.0])
    taken, ranks = noted_routes(skipping.test, rates)
    assert len(taken) == len(skipping.test.asked.users) == 120
    kept = np.array([[route.layers is None or block in route.layers for block in range(BLOCKS)] for route in taken])
    assert kept[:, 0].all() and not kept[:, 3].any()
    np.testing.assert_allclose(kept.mean(0), rates, atol=0.13)
    assert np.corrcoef(kept[:, 1], kept[:, 2])[0, 1] == pytest.approx(0, abs=0.25)
    assert len(set(taken)) == 4
    for route in set(taken):
        rows = np.array([route == own for own in taken])
        alone = rank_part(skipping.run.model, skipping.store, skipping.test.asked, routes=everyone_on(route)).ranks
        np.testing.assert_array_equal(ranks[rows], alone[rows])


@pytest.mark.parametrize("counted", [1, 7, 500])
def test_a_cost_is_that_of_some_evenly_spread_users(skipping: Skipping, counted: int) -> None:
    rates = np.full(BLOCKS, 0.5)
    taken, _ = noted_routes(skipping.test, rates)
    _, spent = skipping.test.drawn(rates, counted=counted)
    users = len(taken)
    rows = (
        [0] if counted == 1 else [int(i * (users - 1) / (min(counted, users) - 1)) for i in range(min(counted, users))]
    )
    lengths, flops = skipping.test.lengths, skipping.run.flops
    own = [flops.request(int(lengths[row]), taken[row]) for row in rows]
    whole = [flops.request(int(lengths[row]), FULL) for row in rows]
    assert spent == pytest.approx(sum(own) / sum(whole))


def test_seen_items_are_left_out_of_draws_too(skipping: Skipping) -> None:
    left = RoutedPart(skipping.run, skipping.store, "test", exclude_seen=True)
    ranks, _ = left.drawn(np.ones(BLOCKS))
    np.testing.assert_array_equal(ranks, left.ranks[:, -1])
    assert (ranks != skipping.test.ranks[:, -1]).any()


def test_a_thinned_part_draws_for_its_own_users(skipping: Skipping) -> None:
    thin = RoutedPart(skipping.run, skipping.store, "test", most=30)
    ranks, spent = thin.drawn(np.ones(BLOCKS))
    np.testing.assert_array_equal(ranks, thin.ranks[:, -1])
    assert len(ranks) == 30 and spent == 1.0


@pytest.fixture(scope="module")
def found(skipping: Skipping) -> dict[str, dict]:
    return controls_of(skipping.test, skipping.valid, BUDGET, {})


def test_a_run_that_skips_blocks_is_held_against_drawn_blocks(skipping: Skipping, found: dict[str, dict]) -> None:
    assert list(found) == ["learned", "whole", "static", "matched", "uniform", "rates", "coin"]
    learned = evaluate_run(skipping.run, skipping.store, "test", budget=BUDGET)
    assert len(learned.route_shares()) > 1
    for name in ("rates", "coin"):
        assert list(found[name]) == ["metrics", "flops_ratio", "lead"]
        assert tuple(found[name]["metrics"]) == METRICS
        lead, low, high = found[name]["lead"]
        assert low <= lead <= high
        assert lead == pytest.approx(learned.metrics["ndcg@10"] - found[name]["metrics"]["ndcg@10"])


def test_drawn_rates_are_how_often_the_learned_routes_keep_each_block(
    skipping: Skipping, found: dict[str, dict]
) -> None:
    learned = evaluate_run(skipping.run, skipping.store, "test", budget=BUDGET)
    rates = learned.blocks_kept(BLOCKS).mean(0)
    assert skipping.test.kept is not None
    np.testing.assert_allclose(matched(skipping.test.chosen(BUDGET)) @ skipping.test.kept, rates)
    assert ((rates > 0.01) & (rates < 0.99)).any()
    ranks, spent = skipping.test.drawn(rates)
    assert found["rates"]["metrics"] == summarise(ranks)
    assert found["rates"]["flops_ratio"] == spent
    ours = skipping.test.table.expected(skipping.test.chosen(BUDGET))
    assert found["rates"]["lead"][0] == pytest.approx((ours - gains("ndcg@10", ranks)).mean())


def test_a_coin_keeps_every_other_block(skipping: Skipping, found: dict[str, dict]) -> None:
    ranks, spent = skipping.test.drawn(np.full(BLOCKS, 0.5))
    assert found["coin"]["metrics"] == summarise(ranks)
    assert found["coin"]["flops_ratio"] == spent
