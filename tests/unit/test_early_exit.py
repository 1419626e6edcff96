"""A choice that is made between blocks: exact, counted, evaluated and served, and refused by name where it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leanrec.backbones import backbones
from leanrec.core.by_route import by_route, routes_taken
from leanrec.core.errors import ArtifactError
from leanrec.core.pricing import Pricing
from leanrec.core.recommender import HeldOut, Recommender, RouteChoice
from leanrec.core.types import FULL, Batch, Route
from leanrec.cost.count import Flops, route_costs
from leanrec.data.batches import BatchLimits, ask, questions, targets
from leanrec.data.split import Split
from leanrec.data.store import Store
from leanrec.engine.engine import Engine
from leanrec.engine.sessions import Sessions
from leanrec.engine.torch_runner import TorchRunner
from leanrec.evaluate.rank import rank
from leanrec.export.write import Trained, export_model
from leanrec.formats.pt2 import Pt2
from toys import catalog, random_batch, randomise

ITEMS, BLOCKS, LONGEST, WIDTH = 20, 3, 6, 8
PREFIXES = (Route(layers=(0,)), Route(layers=(0, 1)), FULL)
SHAPES: dict[str, dict[str, Any]] = {
    "sasrec": {"heads": 2, "rezero": True},
    "nextitnet": {"dilations": (1, 2)},
    "gru4rec": {"rezero": True},
    "bert4rec": {"heads": 2, "rezero": True},
}
names = pytest.mark.parametrize("name", SHAPES)


class Probes(RouteChoice):
    """Early exit: after each block a linear probe of the state tells whether the rest is worth it."""

    def __init__(self, start: Route = FULL) -> None:
        super().__init__()
        self.start = start
        self.probes = nn.ModuleList(nn.Linear(start.emb or WIDTH, 1) for _ in range(BLOCKS - 1))

    def all_routes(self) -> tuple[Route, ...]:
        return PREFIXES

    def routes(self, model: Recommender, batch: Batch, budget: float | None) -> list[Route]:
        return [self.start] * batch.size

    def exits(self, model: Recommender, states: Tensor, block: int, budget: float | None) -> Tensor:
        return self.probes[block](states).squeeze(1) > (0.0 if budget is None else (budget - 0.5) * 1e6)

    def decide(self, model: Recommender, batch: Batch) -> None:
        return None

    def pricing(self) -> Pricing | None:
        return None

    def budgets(self) -> tuple[float, float] | None:
        return None

    def calibrate(self, model: Recommender, held_out: HeldOut) -> None:
        pass


def make(name: str = "sasrec", items: int = ITEMS, choice: RouteChoice | None = None) -> Recommender:
    entry = backbones.get(name)
    torch.manual_seed(0)
    config = entry.config(width=WIDTH, layers=BLOCKS, max_length=LONGEST, **SHAPES[name])
    model = Recommender(entry.build(config, items), lambda model, batch, states, targets: {})
    model.choice = choice or Probes()
    randomise(model, 0.5)
    return model.eval()


def users(count: int = 30) -> Batch:
    torch.manual_seed(1)
    return random_batch(ITEMS, [1 + user % LONGEST for user in range(count)])


def alone(batch: Batch, user: int) -> Batch:
    return batch.rows(torch.tensor([user]))


@torch.inference_mode()
def ran(model: Recommender, batch: Batch, budget: float | None = None) -> tuple[list[Route], Tensor]:
    """The route that each user took, and its state."""
    routes, states = [FULL] * batch.size, torch.zeros(batch.size, WIDTH)
    for rows, taken, found in by_route(model, batch, model.routes(batch, budget), model.exits(budget)):
        states[rows] = found
        for row, route in zip(np.arange(batch.size)[rows], taken, strict=True):
            routes[row] = route
    return routes, states


@names
@torch.inference_mode()
def test_a_user_who_leaves_has_the_state_of_the_blocks_until_there(name: str) -> None:
    model, batch = make(name), users()
    routes, states = ran(model, batch)
    assert set(routes) == set(PREFIXES)
    for user, route in enumerate(routes):
        own = alone(batch, user)
        torch.testing.assert_close(states[user], model.represent(own, route)[0], atol=1e-6, rtol=1e-6)
        for other in set(PREFIXES) - {route}:
            assert (states[user] - model.represent(own, other)[0]).abs().max() > 1e-3


@names
def test_users_leave_where_they_are_told_to_and_whoever_else_is_asked_for_changes_nothing(name: str) -> None:
    model, batch = make(name), users()
    routes, states = ran(model, batch)
    for user, route in enumerate(routes):
        own = alone(batch, user)
        asked = [
            bool(model.choice.exits(model, model.represent(own, prefix), block, None))  # pyright: ignore
            for block, prefix in enumerate(PREFIXES[:-1])
        ]
        assert route == PREFIXES[[*asked, True].index(True)]
        ((found,), state) = ran(model, own)
        assert found == route
        torch.testing.assert_close(state[0], states[user], atol=1e-5, rtol=1e-5)


def test_a_block_runs_on_the_users_who_are_left() -> None:
    model, batch = make(), users()
    seen: dict[int, int] = {}
    for index, block in enumerate(model.backbone.blocks):
        block.register_forward_hook(lambda block, given, out, index=index: seen.update({index: len(given[0])}))
    routes, _ = ran(model, batch)
    gone = routes.count(PREFIXES[0]), routes.count(PREFIXES[1])
    assert seen == {0: 30, 1: 30 - gone[0], 2: 30 - sum(gone)}


def test_users_leave_from_the_routes_they_start_on() -> None:
    """Some skip the middle block: alone and among users who do not, they are asked after their own blocks only."""
    model, batch = make(), users(12)
    starts = [Route(layers=(0, 2)) if user % 2 else FULL for user in range(12)]
    with torch.inference_mode():
        ((_, together, states),) = by_route(model, batch, starts, model.exits(), worth=100)
        assert set(together) >= {Route(layers=(0, 2)), Route(layers=(0,)), FULL}
        for user, start in enumerate(starts):
            ((_, (route,), state),) = by_route(model, alone(batch, user), [start], model.exits())
            assert route == together[user]
            torch.testing.assert_close(state[0], states[user], atol=1e-5, rtol=1e-5)


def test_a_narrow_model_can_be_left_too() -> None:
    narrow = Route(4, 4)
    model, batch = make(choice=Probes(narrow)), users()
    with torch.inference_mode():
        ((_, taken, states),) = by_route(model, batch, model.routes(batch), model.exits())
        assert set(taken) == {Route(4, 4, route.layers) for route in PREFIXES}
        for user, route in enumerate(taken):
            torch.testing.assert_close(
                states[user], model.represent(alone(batch, user), route)[0], atol=1e-6, rtol=1e-6
            )


def test_a_budget_reaches_those_who_decide() -> None:
    model, batch = make(), users()
    assert set(ran(model, batch, 0.0)[0]) == {PREFIXES[0]} and set(ran(model, batch, 1.0)[0]) == {FULL}
    assert routes_taken(model, batch, 1.0) == [FULL] * 30
    assert routes_taken(model, batch) == ran(model, batch)[0]


@names
def test_the_cost_of_a_route_is_what_a_user_who_takes_it_computes(name: str) -> None:
    """Blocks until the exit, for all steps that later blocks would read, and a probe after each but the last."""
    model, flops = make(name), Flops(make(name))
    probe = 2 * WIDTH
    assert flops.routing(LONGEST) == (BLOCKS - 1) * probe
    costs = dict(route_costs(model, LONGEST))
    assert list(costs) == list(PREFIXES)
    assert costs[FULL] == flops.request(LONGEST) + (BLOCKS - 1) * probe
    first = costs[PREFIXES[0]]
    assert first >= flops.request(LONGEST, PREFIXES[0]) + probe
    assert first < costs[PREFIXES[1]] < costs[FULL]
    assert flops.routing(1, PREFIXES[1]) >= 2 * probe
    assert flops.request(LONGEST, PREFIXES[0]) == Flops(make(name)).request(LONGEST, PREFIXES[0])


def test_older_steps_that_only_later_blocks_read_are_paid_for() -> None:
    """The first block of SASRec computes one step if it is the last, and all steps if others follow."""
    flops, probe = Flops(make()), 2 * WIDTH
    every_step = flops.request(LONGEST, PREFIXES[0], last_only=False)
    assert flops.request(LONGEST, PREFIXES[0]) + flops.routing(LONGEST, PREFIXES[0]) == every_step + probe


def test_evaluation_reports_the_routes_that_were_taken(tiny_store: Store) -> None:
    model = make(items=tiny_store.num_items)
    asked = questions(tiny_store, Split.leave_one_out(tiny_store), "test")
    batches = lambda: ask(tiny_store, asked, LONGEST, BatchLimits(100, 10**4))  # noqa: E731
    found = rank(model, batches(), targets(tiny_store, asked))
    assert len(set(found.routes)) > 1
    each = {
        route: rank(model, batches(), targets(tiny_store, asked), routes=lambda b, route=route: [route] * b.size)
        for route in PREFIXES
    }
    assert {route: set(ranking.routes) for route, ranking in each.items()} == {route: {route} for route in PREFIXES}
    assert found.ranks.tolist() == [each[route].ranks[row] for row, route in enumerate(found.routes)]
    assert set(rank(model, batches(), targets(tiny_store, asked), budget=1.0).routes) == {FULL}


def engine_of(model: Recommender) -> Engine:
    costs = dict(route_costs(model, LONGEST))
    return Engine(TorchRunner(model), catalog(ITEMS), costs, costs[FULL])


@torch.inference_mode()
def test_requests_are_answered_as_evaluation_runs_them() -> None:
    model, batch = make(), users()
    engine, (routes, states) = engine_of(model), ran(model, users())
    histories = [items[:length].numpy() for items, length in zip(batch.items, batch.lengths, strict=True)]
    ids, scores, taken = engine.recommend_ids(histories, 5)
    assert taken == routes
    expected = model.items.score(states).topk(5)
    assert ids.tolist() == (expected.indices + 1).tolist()
    np.testing.assert_allclose(scores, expected.values, atol=1e-5)
    one = engine.recommend([[f"i{item}" for item in histories[3]]])[0]
    assert one.route == str(routes[3])
    assert one.flops_ratio == engine.flops[routes[3]] / engine.flops[FULL]
    assert set(engine.recommend_ids(histories, 5, budget=1.0)[2]) == {FULL}


def test_events_one_by_one_are_answered_as_whole_histories() -> None:
    """What a step would be taken with is known only when it has been taken, so histories are read anew."""
    engine = engine_of(make())
    sessions = Sessions(engine)
    history: list[str] = []
    taken: set[str] = set()
    for item in users(1).items[0].tolist() + torch.randint(1, ITEMS, (25,)).tolist():
        history.append(f"i{item}")
        answer, whole = sessions.event("user", history[-1:], 5), engine.recommend([history], 5)[0]
        assert answer.route == whole.route and [s.item for s in answer.items] == [s.item for s in whole.items]
        taken.add(answer.route)
    assert len(taken) > 1 and sessions.steps == 0


def test_an_export_is_refused(tmp_path: Path) -> None:
    trained = Trained(make(), catalog(ITEMS), None, {})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArtifactError) as refused:
        export_model(trained, tmp_path / "out", Pt2())
    assert str(refused.value) == (
        "expected routes that are chosen before the model runs, got Probes, which lets users leave between blocks; serve the "
        "run itself"
    )
    assert not (tmp_path / "out").exists()
