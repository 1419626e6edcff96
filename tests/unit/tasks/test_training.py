"""The validation users that a model is calibrated on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.types import Batch, Route
from leanrec.cost.count import Flops
from leanrec.data.split import Split
from leanrec.data.store import Store
from leanrec.routing.fit import read_sample
from leanrec.tasks.training import held_out
from toys import store_of

LONGEST = 4


def model_for(store: Store) -> Recommender:
    backbone = SASRec(SASRecConfig(width=4, layers=1, heads=1, max_length=LONGEST), store.num_items)
    return Recommender(backbone, lambda model, batch, states, targets: {})


def held(store: Store, model: Recommender | None = None) -> HeldOut:
    return held_out(model or model_for(store), store, Split.leave_one_out(store))


def rows(batches: list[Batch]) -> dict[int, tuple[list[int], list[int]]]:
    """Each user's history and the targets of its steps."""
    found = {}
    for batch in batches:
        assert batch.users is not None and batch.targets is not None
        assert ((batch.targets > 0).sum(1) == 1).all()
        for user, items, steps, targets in zip(batch.users, batch.items, batch.lengths, batch.targets, strict=True):
            assert not items[steps:].any() and not targets[steps:].any()
            found[int(user)] = (items[:steps].tolist(), targets[:steps].tolist())
    return found


def test_the_newest_step_wants_the_validation_item(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", [[1, 2, 3], [1, 2], [5, 4, 3, 2, 1, 5, 4], [1, 1, 2, 2, 3]], 5)
    assert rows(list(held(store).batches())) == {
        0: ([1], [2]),
        2: ([4, 3, 2, 1], [0, 0, 0, 5]),  # the newest four; the last item is the test part's
        3: ([1, 1, 2], [0, 0, 2]),
    }


def test_every_pass_has_the_same_order(tiny_store: Store) -> None:
    sample = held(tiny_store)
    first, second = (list(sample.batches()) for _ in range(2))
    assert len(rows(first)) == 60
    for one, other in zip(first, second, strict=True):
        assert one.users is not None and other.users is not None
        assert one.users.equal(other.users) and one.items.equal(other.items)


@pytest.mark.parametrize("most", [1, 2, 7, 59, 60, 61])
def test_too_many_users_are_thinned_evenly(tiny_store: Store, most: int) -> None:
    sample = held_out(model_for(tiny_store), tiny_store, Split.leave_one_out(tiny_store), most=most)
    users = sorted(rows(list(sample.batches())))
    assert len(users) == min(most, 60)
    if 1 < most < 60:
        gaps = np.diff(users)
        assert (users[0], users[-1]) == (0, 59)
        assert gaps.max() - gaps.min() <= 1


def test_reading_every_route_tells_how_far_it_is(tiny_store: Store, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    model = model_for(tiny_store)
    sample = held_out(model, tiny_store, Split.leave_one_out(tiny_store), report=lambda *what: told.append(what))
    batches = list(sample.batches())
    assert sample.users == 60 and not told
    read_sample(model, lambda batch: batch.lengths[:, None], sample, model.all_routes())
    assert told == [("validation users on every route", n, 60) for n in np.cumsum([b.size for b in batches])]


def test_costs_are_the_models(tiny_store: Store) -> None:
    model = model_for(tiny_store)
    sample, flops = held(tiny_store, model), Flops(model)
    assert sample.flops(3, Route(width=2)) == flops.request(3, Route(width=2)) < sample.flops(3, Route())
    assert sample.routing(3) == 0
