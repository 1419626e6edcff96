"""Which patterns of blocks are chosen for serving: grown on validation users, or what a policy favours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from leanrec.backbones.nextitnet import NextItNet, NextItNetConfig
from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.types import Batch, Route
from leanrec.techniques.skiprec import menu
from leanrec.techniques.skiprec.menu import PRICES, favoured, grown
from toys import random_batch, randomise

ITEMS, BLOCKS, LONGEST = 20, 4, 6


@dataclass
class Users:
    """Batches of validation users, of the given sizes; counts how many batches were asked for."""

    sizes: tuple[int, ...] = (5,)
    given: int = 0
    made: list[Batch] = field(default_factory=list)

    def __post_init__(self) -> None:
        for size in self.sizes:
            batch = random_batch(ITEMS, [1 + user % LONGEST for user in range(size)])
            assert batch.targets is not None
            newest = torch.arange(batch.items.shape[1]) == batch.last[:, None]
            self.made.append(replace(batch, targets=batch.targets * newest))

    def batches(self) -> Iterator[Batch]:
        for batch in self.made:
            self.given += 1
            yield batch

    @property
    def held_out(self) -> HeldOut:
        return HeldOut(self.batches, lambda: (), lambda steps, route: 1, lambda steps: 0)


class Known(Recommender):
    """A model whose states hold so much of the wanted item as the blocks that run are worth together."""

    def __init__(self, worth: dict[frozenset[int], float]) -> None:
        backbone = NextItNet(NextItNetConfig(width=ITEMS, layers=BLOCKS, max_length=LONGEST), ITEMS)
        with torch.no_grad():
            backbone.items.get_parameter("weight")[1:] = torch.eye(ITEMS)
        super().__init__(backbone, lambda model, batch, states, targets: {})
        self.worth, self.asked = worth, list[tuple[tuple[int, ...], int]]()

    def represent(self, batch: Batch, route: Route, skip: Tensor | None = None) -> Tensor:
        assert route.layers is not None
        self.asked.append((route.layers, batch.size))
        kept = set(route.layers)
        worth = sum(value for blocks, value in self.worth.items() if blocks <= kept)
        return worth * self.items.embed(batch.scored()[1])


def alone(*values: float) -> dict[frozenset[int], float]:
    return {frozenset([block]): value for block, value in enumerate(values)}


def layers(patterns: Tensor) -> list[list[int]]:
    return [np.flatnonzero(pattern).tolist() for pattern in patterns.tolist()]


def test_the_most_useful_block_comes_first() -> None:
    chain = grown(Known(alone(0.5, 2.0, -1.0, 1.0)), Users().held_out, 5)
    assert chain.dtype == torch.bool
    assert layers(chain) == [[], [1], [1, 3], [0, 1, 3], [0, 1, 2, 3]]


@given(st.permutations(range(BLOCKS)))
def test_blocks_are_added_by_their_use(order: list[int]) -> None:
    chain = grown(Known(alone(*(float(place) for place in order))), Users((3,)).held_out, BLOCKS + 1)
    best_first = sorted(range(BLOCKS), key=lambda block: -order[block])
    assert layers(chain) == [sorted(best_first[:count]) for count in range(BLOCKS + 1)]


def test_a_block_is_worth_what_it_adds_to_the_ones_before() -> None:
    worth = alone(1.0, 0.6, 0.5, 0.1) | {frozenset([0, 3]): 1.0, frozenset([1, 3]): -2.0}
    chain = grown(Known(worth), Users().held_out, 4)
    assert layers(chain) == [[], [0], [0, 3], [0, 2, 3]]


@pytest.mark.parametrize(("count", "length"), [(1, 1), (2, 2), (4, 4), (5, 5), (9, 5)])
def test_a_chain_is_no_longer_than_there_are_blocks(count: int, length: int) -> None:
    chain = grown(Known(alone(4.0, 3.0, 2.0, 1.0)), Users().held_out, count)
    assert layers(chain) == [list(range(size)) for size in range(length)]


def nll(model: Recommender, batch: Batch, route: Route) -> float:
    """Summed over the users one by one."""
    total = 0.0
    for user in range(batch.size):
        own = batch.rows(torch.tensor([user]))
        scores = model.score(own, route)[0].detach().double().numpy()
        total += float(np.log(np.exp(scores).sum()) - scores[int(own.scored()[1]) - 1])
    return total


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_block_is_the_one_with_the_least_loss_of_a_real_model(seed: int) -> None:
    torch.manual_seed(seed)
    backbone = NextItNet(NextItNetConfig(width=8, layers=BLOCKS, max_length=LONGEST), ITEMS)
    randomise(backbone, 0.5)
    model, users = Recommender(backbone, lambda model, batch, states, targets: {}).train(), Users((6, 5))
    chain = layers(grown(model, users.held_out, BLOCKS + 1))
    assert not model.training
    for before, after in pairwise(chain):
        losses = {
            block: sum(nll(model, batch, Route(layers=tuple(sorted([*before, block])))) for batch in users.made)
            for block in set(range(BLOCKS)) - set(before)
        }
        assert [*after] == sorted([*before, min(losses, key=losses.__getitem__)])


def test_only_the_first_users_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(menu, "MENU_USERS", 5)
    model, users = Known(alone(1.0, 2.0, 3.0, 4.0)), Users((3, 4, 3))
    grown(model, users.held_out, 2)
    assert model.asked == [((block,), size) for block in range(BLOCKS) for size in (3, 2)]
    assert users.given == 2


def test_a_batch_of_exactly_enough_users_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(menu, "MENU_USERS", 7)
    model, users = Known(alone(1.0, 2.0, 3.0, 4.0)), Users((3, 4, 3))
    grown(model, users.held_out, 2)
    assert [size for _, size in model.asked[:2]] == [3, 4] and users.given == 2


def test_fewer_users_than_are_wanted_are_all_read() -> None:
    model, users = Known(alone(1.0, 2.0, 3.0, 4.0)), Users((3, 4))
    grown(model, users.held_out, 2)
    assert [size for _, size in model.asked[:2]] == [3, 4]


def test_the_users_that_are_read_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """One block serves the first users, the other one those behind them."""

    class Divided(Known):
        def represent(self, batch: Batch, route: Route, skip: Tensor | None = None) -> Tensor:
            first = batch.lengths == 1
            worth = torch.where(first, 2.0 * (0 in (route.layers or ())), 3.0 * (1 in (route.layers or ())))
            return worth[:, None] * self.items.embed(batch.scored()[1])

    def best() -> list[int]:
        users = Users((1, 1, 6))
        return layers(grown(Divided({}), users.held_out, 2))[1]

    assert best() == [1]
    monkeypatch.setattr(menu, "MENU_USERS", 2)
    assert best() == [0]


def at_every_price(odds: np.ndarray) -> list[Counter[tuple[bool, ...]]]:
    """The patterns that users take, from the dearest price to the cheapest."""
    prices = np.linspace(odds.max(), odds.min(), PRICES, dtype=np.float32)
    return [Counter(tuple(bool(odd > price) for odd in user) for user in odds) for price in prices]


small = st.integers(1, 6).flatmap(
    lambda users: st.lists(
        st.lists(st.sampled_from([-2.03, -1.07, -0.31, 0.17, 0.89, 1.53]), min_size=3, max_size=3),
        min_size=users,
        max_size=users,
    )
)


@given(small, st.integers(1, 8))
def test_favoured_patterns_are_distinct_and_some_users_own(odds: list[list[float]], count: int) -> None:
    found = [tuple(pattern) for pattern in favoured(torch.tensor(odds), count).tolist()]
    taken = set().union(*at_every_price(np.array(odds, np.float32)))
    assert len(found) == len(set(found)) == min(count, len(taken))
    assert set(found) <= taken
    assert found[0] == (False, False, False)  # nothing is worth the dearest price


@given(small, st.integers(1, 8))
def test_the_most_frequent_pattern_of_every_price_comes_before_any_second_one(
    odds: list[list[float]], count: int
) -> None:
    people = [user for place, user in enumerate(odds) for _ in range(2**place)]  # so that no two patterns tie
    found = [tuple(pattern) for pattern in favoured(torch.tensor(people), count).tolist()]
    ladder = at_every_price(np.array(people, np.float32))
    expected: list[tuple[bool, ...]] = []
    for rank in range(max(map(len, ladder))):
        for users in ladder:
            if rank < len(users) and users.most_common()[rank][0] not in expected:
                expected.append(users.most_common()[rank][0])
    assert found == expected[:count]


def test_users_who_agree_are_served_a_chain_by_their_odds() -> None:
    odds = torch.tensor([[0.5, 3.0, -1.0, 2.0]]).repeat(7, 1)
    assert layers(favoured(odds, 9)) == [[], [1], [1, 3], [0, 1, 3]]
    assert layers(favoured(odds, 2)) == [[], [1]]


def test_what_most_users_take_is_served_before_what_few_do() -> None:
    many, few = [2.0, 1.0, -2.0], [-1.0, 1.2, 2.0]
    odds = torch.tensor([many, many, many, few, few])
    assert layers(favoured(odds, 3)) == [[], [0], [0, 1]]
    assert [2] in layers(favoured(odds, 9)) and [1, 2] in layers(favoured(odds, 9))


def test_users_without_any_preference_are_served_nothing_at_all() -> None:
    assert layers(favoured(torch.zeros(5, 3), 4)) == [[]]
