"""Histories run together by length, and every user is answered as if alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.backbones import backbones
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL, Batch, Route
from leanrec.engine import batches as module
from leanrec.engine.batches import by_length, left_out, padded
from leanrec.engine.engine import Engine
from leanrec.engine.torch_runner import TorchRunner
from toys import catalog

ITEMS, MAX_LENGTH = 30, 20


class ByParity(Recommender):
    """A made-up router: users with an even newest item take half the width."""

    def routes(self, batch: Batch, budget: float | None = None) -> list[Route]:
        newest = batch.items.gather(1, batch.last[:, None]).squeeze(1)
        return [Route(width=4) if item % 2 == 0 else FULL for item in newest.tolist()]


def shop(lengths: Sequence[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(1, ITEMS + 1, length).astype(np.int32) for length in lengths]


@given(st.lists(st.integers(1, 2 * MAX_LENGTH), min_size=1, max_size=40), st.sampled_from([0, 8, 10**9]), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_request_answers_every_user_as_if_alone(lengths: list[int], worth: int, length_batching: bool) -> None:
    torch.manual_seed(0)
    entry = backbones.get("sasrec")
    backbone = entry.build(entry.config(width=8, max_length=MAX_LENGTH, std=1.0), ITEMS)
    model = ByParity(backbone, lambda model, batch, states, targets: {})
    engine = Engine(TorchRunner(model), catalog(ITEMS), {FULL: 1}, 1, length_batching)
    histories = shop(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WORTH_A_BATCH", worth)
        ids, scores, routes = engine.recommend_ids(histories, 5)
    assert ids.shape == scores.shape == (len(lengths), 5)
    for row, history in enumerate(histories):
        cut = torch.from_numpy(history[-MAX_LENGTH:].astype(np.int64))[None]
        batch = Batch(cut, torch.tensor([cut.shape[1]]))
        with torch.inference_mode():
            (route,) = model.routes(batch)
            alone = model.score(batch, route)[0]
        assert routes[row] == route
        found = torch.from_numpy(scores[row])
        torch.testing.assert_close(found, alone.topk(5).values, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone[torch.from_numpy(ids[row]) - 1], found, rtol=1e-4, atol=1e-5)


def test_long_and_short_histories_run_apart_where_it_is_worth_it() -> None:
    histories = shop([2, 20, 2, 3, 19])
    groups = [(rows.tolist(), found.items.shape) for rows, found in by_length(histories, MAX_LENGTH, worth=10)]
    assert groups == [([4, 1], (2, 20)), ([0, 2, 3], (3, 3))]
    together = [[0, 2, 3, 4, 1]]
    assert [rows.tolist() for rows, _ in by_length(histories, MAX_LENGTH, apart=False)] == together
    assert [rows.tolist() for rows, _ in by_length(histories, MAX_LENGTH, worth=1000)] == together


def test_padded() -> None:
    assert padded([[1, 2], [3]]).tolist() == [[1, 2], [3, 0]]
    assert padded([[], []]).shape == (2, 0)
    assert padded([[]]).shape == (1, 0)
    assert padded([[], [4]]).tolist() == [[0], [4]]


@given(
    st.lists(st.lists(st.integers(1, 20), max_size=12), min_size=1, max_size=8), st.integers(1, 40), st.integers(0, 6)
)
def test_what_is_left_out_stays_small(lists: list[list[int]], most: int, long: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEFT_OUT", most)
        patch.setattr(module, "LONG", long)
        found = list(left_out(lists))
    covered = [row for some, _ in found for row in range(some.start, some.stop)]
    assert covered == list(range(len(lists)))
    for some, gone in found:
        users = some.stop - some.start
        assert users == 1 or gone is None or gone.size <= most
        rows = gone.tolist() if gone is not None else [[]] * users
        assert [set(row) - {0} for row in rows] == [set(ids) for ids in lists[some]]


def test_one_long_list_is_not_everyones() -> None:
    lists = [[1, 2]] * 1000 + [list(range(1, 100_001)) * 2]
    assert sum(gone.size for _, gone in left_out(lists) if gone is not None) == 2 * 1000 + 100_000
