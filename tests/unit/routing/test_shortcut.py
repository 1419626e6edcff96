"""Users who are answered without the network: who they are, what that costs, and that no weight of the network is read for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.by_route import by_route
from leanrec.core.evidence import Evidence, Rows
from leanrec.core.followers import Counts
from leanrec.core.grouping import grouped
from leanrec.core.plain import Route
from leanrec.core.pricing import Pricing
from leanrec.core.recommender import HeldOut, Recommender, RouteChoice, SparseScores
from leanrec.core.stepping import memories
from leanrec.core.training_events import EventsPart
from leanrec.core.types import FULL, NO_NETWORK, Batch
from leanrec.cost.count import Flops
from leanrec.engine.engine import Engine
from leanrec.engine.torch_runner import TorchRunner
from leanrec.routing.shortcut import PricedShortcut
from toys import catalog, random_batch, random_held_out, randomise

ITEMS, LONGEST, WIDTH = 30, 8, 12


class Next(SparseScores):
    """Says that the item after the newest one comes next, if that has an odd number."""

    def evidence(self, batch: Batch, scored: Tensor | None = None) -> Evidence:
        newest = batch.items.gather(1, batch.last[:, None])
        return Evidence(newest % ITEMS + 1, (newest % 2).float() * 3, torch.ones(batch.size))

    def alone(self, batch: Batch) -> Evidence:
        return self.evidence(batch)._replace(gain=torch.full((batch.size,), 2.0))

    def signs(self, batch: Batch) -> Tensor:
        return (batch.items.gather(1, batch.last[:, None]) % 2).float()

    def calibrate(self, model: Recommender, held_out: HeldOut) -> None:
        pass

    def rows(self) -> Rows:
        raise AssertionError("not exported here")

    def counted(self) -> None:
        return None

    def recount(self, counts: Counts) -> None:
        raise AssertionError("nothing was counted")

    def flops(self, channels: int) -> int:
        return 10 + channels


class Halves(RouteChoice):
    """The first block for everyone, or all; as good as the history is long."""

    ROUTES = (Route(layers=(0,)), FULL)

    def all_routes(self) -> tuple[Route, ...]:
        return self.ROUTES

    def routes(self, model: Recommender, batch: Batch, budget: float | None) -> list[Route]:
        return [FULL] * batch.size

    def decide(self, model: Recommender, batch: Batch) -> Tensor:
        return torch.stack([batch.lengths * 0.0, batch.lengths / 100], 1)

    def pricing(self) -> Pricing:
        costs = np.tile(np.array([[0.4, 0.8]], np.float32), (LONGEST + 1, 1))
        return Pricing(self.ROUTES, costs, np.array([0.4, 0.8]), np.array([1.0, 0.0]), 0.5)

    def budgets(self) -> tuple[float, float]:
        return 0.4, 0.8

    def calibrate(self, model: Recommender, held_out: HeldOut) -> None:
        pass


class Leaves(Halves):
    """Users may leave between blocks."""

    def exits(self, *asked: Any) -> Tensor:
        raise AssertionError("the model is not run here")


def make(choice: RouteChoice | None = None, budget: float = 0) -> Recommender:
    torch.manual_seed(0)
    body = SASRec(SASRecConfig(width=WIDTH, layers=3, heads=2, max_length=LONGEST), ITEMS)
    model = Recommender(body, lambda model, batch, states, targets: {})
    model.choice, model.sparse = choice, Next()
    model.shortcut = PricedShortcut(ITEMS, WIDTH, LONGEST, 1, budget)
    randomise(model, 0.3)
    model.shortcut.popularity.copy_(torch.linspace(-1, -4, ITEMS))
    return model.eval()


def held_out(model: Recommender) -> HeldOut:
    """Users of an odd newest item want the one after it, the others what the network thinks best."""
    flops = Flops(model)
    found = random_held_out(ITEMS, LONGEST, flops.request, flops.routing, users=400)
    (batch,) = found.batches()
    newest = batch.items.gather(1, batch.last[:, None])
    best = model.score(batch).scatter(1, batch.items - 1 + (batch.items == 0).long(), -torch.inf).argmax(1)[:, None] + 1
    wanted = torch.where(newest % 2 == 1, newest % ITEMS + 1, best)
    asked = [replace(batch, targets=torch.zeros_like(batch.items).scatter(1, batch.last[:, None], wanted))]
    return replace(found, batches=lambda: asked)


def calibrated(choice: RouteChoice | None = None, budget: float = 0) -> Recommender:
    model = make(choice, budget)
    model.calibrate(held_out(model))
    return model


def users() -> Batch:
    torch.manual_seed(3)
    return random_batch(ITEMS, [1 + user % LONGEST for user in range(200)])


def short(routes: list[Route]) -> np.ndarray:
    return np.array([route == NO_NETWORK for route in routes])


@pytest.mark.parametrize("choice", [None, Halves()])
def test_users_whose_evidence_is_enough_leave_first(choice: RouteChoice | None) -> None:
    model, batch = calibrated(choice), users()
    reach = model.budgets()
    assert reach is not None
    enough = (batch.items.gather(1, batch.last[:, None]) % 2 == 1).squeeze(1).numpy()
    taken = short(model.routes(batch, 0.35))
    assert 0.2 < taken.mean() < 0.8
    assert (taken == enough).mean() > 0.85
    assert short(model.routes(batch, reach[0])).mean() > 0.95
    assert short(model.routes(batch, reach[1])).mean() < 0.05


@pytest.mark.parametrize("choice", [None, Halves()])
@pytest.mark.parametrize("budget", [0.1, 0.3, 0.6])
def test_a_budget_is_kept_on_the_users_it_was_fitted_on(choice: RouteChoice | None, budget: float) -> None:
    model = calibrated(choice)
    pricing = model.pricing()
    assert pricing is not None
    (batch,) = held_out(model).current()
    routes = model.routes(batch, budget)
    columns = [model.all_routes().index(route) for route in routes]
    spent = pricing.costs[batch.lengths.numpy(), columns].mean()
    assert spent == pytest.approx(budget, rel=0.06)  # steps of single users


def test_beside_a_choice_its_routes_keep_their_scores_and_costs() -> None:
    model, batch = calibrated(Halves()), users()
    assert model.choice is not None
    scores, pricing, inner = model.decide(batch), model.pricing(), model.choice.pricing()
    assert scores is not None and pricing is not None and inner is not None
    assert model.all_routes() == pricing.routes == (NO_NETWORK, *inner.routes)
    torch.testing.assert_close(scores[:, 1:], model.choice.decide(model, batch))
    np.testing.assert_array_equal(pricing.costs[:, 1:], inner.costs)
    flops = Flops(model)
    ratio = [
        (flops.request(n, NO_NETWORK) + flops.routing(n)) / (flops.request(n) + flops.routing(n)) for n in (1, 4, 8)
    ]
    np.testing.assert_allclose(pricing.costs[[1, 4, 8], 0], np.array(ratio) * 0.8, rtol=1e-4)
    assert pricing.price(None) == pytest.approx(pricing.price(inner.span()[1]))  # the choice's own budget


def test_before_it_is_fitted_nobody_leaves() -> None:
    model, batch = make(), users()
    assert model.routes(batch) == [FULL] * batch.size
    assert model.pricing() is None and model.budgets() is None


def test_a_choice_between_blocks_leaves_it_out() -> None:
    model = make(Leaves())
    assert model.all_routes() == Halves.ROUTES and model.pricing() is not None
    model.calibrate(held_out(model))
    assert isinstance(model.shortcut, PricedShortcut) and not model.shortcut.dial.fitted


def test_without_a_budget_the_network_is_asked_where_it_gains_anything() -> None:
    model, batch = calibrated(), users()
    scores = model.decide(batch)
    assert scores is not None
    assert short(model.routes(batch)).tolist() == (scores[:, 0] >= scores[:, 1]).tolist()
    cheap = calibrated(budget=0.1)
    assert 0.9 > short(model.routes(batch)).mean() > 0.1
    assert short(cheap.routes(batch)).mean() > short(model.routes(batch)).mean()


def refuse(*args: Any, **options: Any) -> Tensor:
    raise AssertionError("the network was asked")


def test_no_block_and_no_item_vector_is_read_to_answer_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model = calibrated()
    engine = Engine(
        TorchRunner(model, screen=lambda matrix: None), catalog(ITEMS), dict.fromkeys(model.all_routes(), 1), 1
    )
    least = engine.budgets
    assert least is not None
    monkeypatch.setattr(model.items, "score", refuse)
    monkeypatch.setattr(model.items, "top_k", refuse)
    monkeypatch.setattr(model.backbone, "entered", refuse)
    for block in model.backbone.blocks:
        monkeypatch.setattr(block, "forward", refuse)
    batch = users().rows(torch.from_numpy(np.flatnonzero(short(model.routes(users(), least[0])))))
    histories = [row[:length] for row, length in zip(batch.items.numpy(), batch.lengths.tolist(), strict=True)]
    ids, scores, routes = engine.recommend_ids(histories, 5, budget=least[0])
    assert set(routes) == {NO_NETWORK}
    dense = model.score(batch, NO_NETWORK)
    wanted, best = dense.topk(5)
    np.testing.assert_allclose(scores, wanted.numpy(), rtol=1e-6)
    assert (ids == best.numpy() + 1).all()


def test_the_scores_are_the_prior_and_what_is_added() -> None:
    model, batch = calibrated(), users()
    assert isinstance(model.shortcut, PricedShortcut) and model.sparse is not None
    prior = model.shortcut.popularity * model.shortcut.share
    alone = model.sparse.alone(batch).additions().onto(prior.repeat(batch.size, 1))
    torch.testing.assert_close(model.score(batch, NO_NETWORK), alone)


def test_it_costs_the_prior_the_evidence_and_the_routing() -> None:
    model = make()
    flops = Flops(model)
    assert flops.request(5, NO_NETWORK) == 2 * ITEMS + 10
    assert flops.request(5, NO_NETWORK, head=False) == 0
    inputs = 2 * WIDTH + 4 + 1
    assert flops.routing(5) == 2 * inputs * 2


def test_they_run_apart_and_the_others_as_ever() -> None:
    some = [Route(layers=(0,)), Route(layers=(1,)), FULL]
    routes = [NO_NETWORK, some[0], NO_NETWORK, some[1], some[2]]
    first, rest = grouped(routes, 2)
    assert (first.route, first.rows.tolist() if first.rows is not None else None) == (NO_NETWORK, [0, 2])
    assert rest.rows is not None and rest.skip is not None
    assert (rest.rows.tolist(), list(rest.routes)) == ([1, 3, 4], some)
    groups = list(grouped(routes))
    assert [group.rows.tolist() for group in groups if group.rows is not None] == [[0, 2], [1], [3], [4]]
    (only,) = grouped([NO_NETWORK] * 3, 2)
    assert only.rows is None and only.route == NO_NETWORK


@torch.inference_mode()
def test_states_have_no_channels_and_nothing_is_remembered() -> None:
    model, batch = make(), users()
    found = list(by_route(model, batch, [NO_NETWORK, FULL] * 100))
    assert sorted(states.shape[1] for _, _, states in found) == [0, WIDTH]
    assert memories(model.backbone, NO_NETWORK) is None
    model.check(NO_NETWORK)


def test_its_name() -> None:
    assert str(NO_NETWORK) == "none" and Route.parse("none") == NO_NETWORK


class Listed:
    """Training events in two parts."""

    num_items, num_events, newest = 4, 5, None

    def parts(self) -> Iterator[EventsPart]:
        for items in ([1, 1, 2], [1, 3]):
            yield EventsPart(np.array(items, np.int32), np.zeros(len(items), np.int64), None)


def test_popularity_is_counted() -> None:
    made = PricedShortcut(4, WIDTH, LONGEST, 1, 0)
    made.count(Listed())
    torch.testing.assert_close(made.prior, (torch.tensor([4, 2, 2, 1]) / 9).log())
