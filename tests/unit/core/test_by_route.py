"""Users of many patterns of blocks: group by group or block by block, the answers are the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from leanrec.backbones import backbones
from leanrec.core.grouping import grouped, skipped
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL, Batch, Hidden, Route
from toys import random_batch, randomise, scores_by_route

ITEMS, BLOCKS, LONGEST = 20, 3, 6
SHAPES: dict[str, dict[str, Any]] = {
    "sasrec": {"heads": 2, "rezero": True},
    "nextitnet": {"dilations": (1, 2)},
    "gru4rec": {"rezero": True},
    "bert4rec": {"heads": 2, "rezero": True},
}
APART = (Route(layers=()), Route(layers=(1,)), Route(layers=(0, 2)), FULL)
"""Routes that differ in their blocks only."""
NARROW = tuple(Route(4, 4, route.layers) for route in APART)
names = pytest.mark.parametrize("name", SHAPES)


class Counted(Recommender):
    """Notes of every run its users, its route, and whether users skip blocks of it."""

    runs: list[tuple[int, Route, bool]]


def make(name: str = "nextitnet") -> Counted:
    entry = backbones.get(name)
    config = entry.config(width=8, layers=BLOCKS, max_length=LONGEST, **SHAPES[name])
    torch.manual_seed(0)
    backbone = entry.build(config, ITEMS)
    model = Counted(backbone, lambda model, batch, states, targets: {})
    randomise(model, 0.3)
    model.runs, encode = [], backbone.encode

    def counted(batch: Batch, route: Route = FULL, **options: Any) -> Hidden:
        model.runs.append((batch.size, route, options.get("skip") is not None))
        return encode(batch, route, **options)

    backbone.encode = counted  # pyright: ignore[reportAttributeAccessIssue]
    return model.eval()


def answers(
    model: Counted, batch: Batch, routes: list[Route], worth: int
) -> tuple[Tensor, list[tuple[int, Route, bool]]]:
    """Scores of all users, and what was run."""
    model.runs.clear()
    with torch.inference_mode():
        return scores_by_route(model, batch, routes, worth), [*model.runs]


@names
@pytest.mark.parametrize("kinds", [APART, NARROW], ids=["whole width", "narrow"])
def test_block_by_block_and_in_groups_the_answers_are_the_same(name: str, kinds: tuple[Route, ...]) -> None:
    model, batch = make(name), random_batch(ITEMS, [1 + user % LONGEST for user in range(14)])
    routes = [kinds[(user * 3) % 4] for user in range(14)]
    apart, runs = answers(model, batch, routes, 0)
    assert sorted(runs, key=str) == sorted(((routes.count(kind), kind, False) for kind in kinds), key=str)
    together, once = answers(model, batch, routes, 10**9)
    assert once == [(14, Route(kinds[0].emb, kinds[0].width), True)]
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)
    for user, route in enumerate(routes):
        alone = model.score(batch.rows(torch.tensor([user])), route)[0].detach()
        torch.testing.assert_close(together[user], alone, atol=1e-5, rtol=0)
        other = model.score(batch.rows(torch.tensor([user])), kinds[(user * 3 + 1) % 4])[0].detach()
        assert (together[user] - other).abs().max() > 1e-3


@given(st.lists(st.tuples(st.sampled_from(APART), st.integers(1, LONGEST)), min_size=1, max_size=8), st.booleans())
def test_answers_come_back_in_order(users: list[tuple[Route, int]], one_by_one: bool) -> None:
    model, routes = make(), [route for route, _ in users]
    batch = random_batch(ITEMS, [length for _, length in users])
    scores, runs = answers(model, batch, routes, 10**9 if one_by_one else 0)
    assert len(runs) == (1 if one_by_one else len(set(routes)))
    for user, route in enumerate(routes):
        alone = model.score(batch.rows(torch.tensor([user])), route)[0].detach()
        torch.testing.assert_close(scores[user], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "kinds",
    [
        (Route(width=4, layers=(0,)), Route(layers=(1,)), FULL),
        (Route(emb=4), Route(emb=8), FULL),
        (Route(layers=(0,)), Route(emb=8, layers=(1,)), FULL),
    ],
    ids=["widths", "embeddings", "all channels by number"],
)
def test_routes_of_different_channels_are_always_grouped(kinds: tuple[Route, ...]) -> None:
    model, batch = make(), random_batch(ITEMS, [3, 6, 2, 5, 1, 4])
    routes = [*kinds, *kinds]
    scores, runs = answers(model, batch, routes, 10**9)
    assert runs == [(2, kind, False) for kind in kinds]
    for user, route in enumerate(routes):
        alone = model.score(batch.rows(torch.tensor([user])), route)[0].detach()
        torch.testing.assert_close(scores[user], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("route", APART, ids=str)
def test_users_who_all_agree_skip_nothing_one_by_one(route: Route) -> None:
    model, batch = make(), random_batch(ITEMS, [3, 6, 2])
    scores, runs = answers(model, batch, [route] * 3, 10**9)
    assert runs == [(3, route, False)]
    assert torch.equal(scores, model.score(batch, route))


@pytest.mark.parametrize(("users", "blocks_first"), [(4, True), (5, True), (6, False), (7, False)])
def test_groups_are_worth_it_from_a_mean_size(users: int, blocks_first: bool) -> None:
    routes = [APART[0], APART[1]] + [APART[1]] * (users - 2)
    _, runs = answers(make(), random_batch(ITEMS, [3] * users), routes, 3)
    assert len(runs) == (1 if blocks_first else 2)
    assert runs[0][2] == blocks_first


@names
def test_a_block_runs_on_the_users_that_keep_it_and_on_no_others(name: str) -> None:
    model, batch = make(name), random_batch(ITEMS, [3, 6, 2, 5])
    routes = [Route(layers=(0,)), Route(layers=(0, 2)), Route(layers=()), Route(layers=(0,))]
    seen: dict[int, int] = {}
    for index, block in enumerate(model.backbone.blocks):
        block.register_forward_hook(lambda block, given, out, index=index: seen.update({index: len(given[0])}))
    answers(model, batch, routes, 10**9)
    assert seen == {0: 3, 2: 1}


def test_users_of_one_route_are_not_copied() -> None:
    (group,) = grouped([FULL] * 3, BLOCKS)
    assert (group.rows, group.routes, group.route, group.skip) == (None, [FULL] * 3, FULL, None)


def test_a_model_that_is_a_graph_per_route_never_runs_block_by_block() -> None:
    routes = [APART[0], APART[1], APART[0]]
    assert [(group.route, group.rows.tolist()) for group in grouped(routes) if group.rows is not None] == [
        (APART[0], [0, 2]),
        (APART[1], [1]),
    ]


def test_blocks_that_routes_leave_out() -> None:
    routes = [FULL, Route(layers=()), Route(layers=(0, 2)), Route(emb=4, width=4, layers=(1,)), Route(width=4)]
    assert skipped(routes, 3).tolist() == [
        [False, False, False],
        [True, True, True],
        [False, True, False],
        [True, False, True],
        [False, False, False],
    ]


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=6))
def test_a_route_skips_what_it_does_not_keep(patterns: list[list[bool]]) -> None:
    routes = [Route(layers=tuple(i for i, keep in enumerate(pattern) if keep)) for pattern in patterns]
    found = skipped(routes, 5)
    assert found.dtype == bool
    assert (~found).tolist() == patterns
