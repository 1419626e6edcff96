from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL, Batch, Route
from leanrec.data.batches import BatchLimits, QuestionBatch, Seen, ask, questions, targets
from leanrec.data.split import Split
from leanrec.data.store import Store
from leanrec.evaluate import rank as module
from leanrec.evaluate.metrics import MISSED, listed_ranks, summarise
from leanrec.evaluate.rank import rank, ranks_of
from leanrec.items.tables import PlainTable
from toys import random_batch, randomise


def table_of(scores: Tensor) -> tuple[PlainTable, Tensor]:
    """An item table and states that give exactly these scores [B, N]."""
    users, items = scores.shape
    table = PlainTable(items, users, 1.0)
    with torch.no_grad():
        table.weight[1:] = scores.t()
    return table, torch.eye(users)


def brute_force(scores: list[float], target: int, seen: set[int]) -> int:
    """Walk down the ranking, the target behind everything that scores the same."""
    if target in seen:
        return MISSED
    rivals = [item for item in range(1, len(scores) + 1) if item != target and item not in seen]
    return 1 + sum(scores[item - 1] >= scores[target - 1] for item in rivals)


def seen_of(histories: list[list[int]]) -> Seen:
    lengths = np.array([len(history) for history in histories])
    flat = np.array([item for history in histories for item in history], np.int32)
    return Seen(flat, np.cumsum(lengths) - lengths, np.cumsum(lengths))


@given(st.data(), st.integers(1, 6), st.integers(1, 9), st.integers(1, 30))
def test_equals_brute_force_with_ties(data: st.DataObject, users: int, items: int, elements: int) -> None:
    rows = st.lists(st.integers(-2, 2).map(float), min_size=items, max_size=items)
    scores = data.draw(st.lists(rows, min_size=users, max_size=users))
    ids = st.integers(1, items)
    wanted = data.draw(st.lists(ids, min_size=users, max_size=users))
    seen = data.draw(st.lists(st.lists(ids, max_size=4), min_size=users, max_size=users))
    table, states = table_of(torch.tensor(scores))
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(module, "RANKED_AT_ONCE", elements)
        plain = ranks_of(table.score, table.num_items, states, torch.tensor(wanted), None)
        without = ranks_of(table.score, table.num_items, states, torch.tensor(wanted), seen_of(seen))
    assert plain.tolist() == [brute_force(*user, set()) for user in zip(scores, wanted, strict=True)]
    assert without.tolist() == [
        brute_force(row, target, set(gone)) for row, target, gone in zip(scores, wanted, seen, strict=True)
    ]


def test_a_target_that_was_seen_is_missed() -> None:
    table, states = table_of(torch.tensor([[5.0, 4.0, 3.0, 2.0]]))
    assert ranks_of(table.score, table.num_items, states, torch.tensor([1]), seen_of([[1, 2, 1]])).tolist() == [MISSED]
    assert ranks_of(table.score, table.num_items, states, torch.tensor([3]), seen_of([[1, 2, 1]])).tolist() == [1]


def test_a_model_that_says_the_same_of_everything_ranks_last() -> None:
    table, states = table_of(torch.zeros(1, 50))
    assert ranks_of(table.score, table.num_items, states, torch.tensor([1]), None).tolist() == [50]


@pytest.mark.parametrize("seen", [None, [[2, 2]] * 2])
def test_a_model_that_diverged_ranks_last(seen: list[list[int]] | None) -> None:
    scores = torch.full((2, 50), torch.nan)
    scores[1, 0] = 1.0
    table, _ = table_of(scores)
    states = torch.eye(2)
    table.score = lambda hidden, ids=None: scores  # a product with the unit matrix would spread the NaN
    left = 50 if seen is None else 49
    assert ranks_of(
        table.score, table.num_items, states, torch.tensor([1, 1]), None if seen is None else seen_of(seen)
    ).tolist() == [
        left,
        left,
    ]
    assert not any(summarise(np.array([left])).values())


class Routed(Recommender):
    """Even users take the whole model, odd ones a slice."""

    def routes(self, batch: Batch, budget: float | None = None) -> list[Route]:
        assert batch.users is not None
        return [FULL if budget == 1 or user % 2 == 0 else Route(width=4, layers=()) for user in batch.users.tolist()]


def make(items: int) -> Routed:
    backbone = SASRec(SASRecConfig(width=8, layers=1, heads=2, max_length=6), items)
    randomise(backbone, 0.3)
    return Routed(backbone, lambda model, batch, states, targets: {}).eval()


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("limits", [BatchLimits(1, 1), BatchLimits(7, 40), BatchLimits(1000, 10**6)])
def test_every_user_on_its_own_route(tiny_store: Store, exclude_seen: bool, limits: BatchLimits) -> None:
    model = make(tiny_store.num_items)
    asked = questions(tiny_store, Split.leave_one_out(tiny_store), "test")
    wanted = targets(tiny_store, asked)
    ranking = rank(model, ask(tiny_store, asked, 6, limits), wanted, exclude_seen)
    assert ranking.ranks.dtype == np.int64
    for row, user in enumerate(asked.users):
        history = torch.from_numpy(tiny_store.history(user)[:-1].astype(np.int64))
        route = FULL if user % 2 == 0 else Route(width=4, layers=())
        newest = history[-6:]
        scores = model.score(Batch(newest[None], torch.tensor([len(newest)])), route)[0].tolist()
        assert ranking.routes[row] == route
        assert ranking.ranks[row] == brute_force(
            scores, int(wanted[row]), set(history.tolist()) if exclude_seen else set()
        )


def test_routes_can_be_given(tiny_store: Store) -> None:
    asked = questions(tiny_store, Split.leave_one_out(tiny_store), "valid")
    batches = ask(tiny_store, asked, 6, BatchLimits(100, 10**4))
    none = Route(layers=())
    ranking = rank(
        make(tiny_store.num_items), batches, targets(tiny_store, asked), routes=lambda batch: [none] * batch.size
    )
    assert set(ranking.routes) == {none}


def test_nothing_asked_nothing_ranked() -> None:
    nobody: Iterator[QuestionBatch] = iter(())
    ranking = rank(make(5), nobody, np.zeros(0, np.int64))
    assert ranking.ranks.tolist() == ranking.routes == []


def test_no_gradients_are_kept() -> None:
    model = make(9)
    batch = random_batch(9, [3])
    question = QuestionBatch(Batch(batch.items, batch.lengths, users=torch.tensor([0])), batch.items, np.array([0]))
    rank(model, [question], np.array([2]))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_target_that_is_not_known_is_missed(tiny_store: Store) -> None:
    asked = questions(tiny_store, Split.leave_one_out(tiny_store), "test")
    wanted = targets(tiny_store, asked)
    wanted[::2] = 0
    found = rank(make(tiny_store.num_items), ask(tiny_store, asked, 6, BatchLimits(7, 1000)), wanted)
    assert (found.ranks[::2] == MISSED).all() and (found.ranks[1::2] <= tiny_store.num_items).all()
    assert summarise(np.array([MISSED, 1]))["hr@20"] == summarise(np.array([MISSED, 1]))["mrr@5"] == 0.5


def test_no_item_is_not_listed() -> None:
    assert listed_ranks(np.array([[3, 1, 0], [2, 0, 0]]), np.array([1, 0])).tolist() == [2, MISSED]
