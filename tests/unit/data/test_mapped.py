"""A store seen in the ids of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanrec.core.errors import DataError
from leanrec.core.plain import Catalog
from leanrec.data.batches import BatchLimits, Questions, ask, everyone, had_before, questions, targets
from leanrec.data.mapped import item_ids, mapped
from leanrec.data.split import Split
from leanrec.data.store import Store
from leanrec.data.training_log import TrainingLog
from toys import store_of

# the store's items are i1..i6; the model has four, in another order, of which "z" is not in the store
KNOWN = Catalog(("i3", "i1", "z", "i5"), ("three", "one", "zed", "five"), ())
BY_HAND = {1: 2, 3: 1, 5: 4}
HISTORIES = [[1, 2, 3, 5], [2, 4, 6, 2], [5, 5, 1, 2], [2, 3, 2], [6, 1, 4, 3, 1]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    times = [np.arange(len(history)) * 10 + user for user, history in enumerate(HISTORIES)]
    return store_of(tmp_path / "store", HISTORIES, 6, times)


def by_hand(history: list[int]) -> list[int]:
    return [BY_HAND[item] for item in history if item in BY_HAND]


def test_the_same_items_need_no_view(store: Store) -> None:
    assert mapped(store, store.catalog) is store
    assert store.unknown is None and store.whole is store


def test_histories_are_those_mapped_by_hand(store: Store) -> None:
    view = mapped(store, KNOWN)
    assert [view.history(user).tolist() for user in range(len(HISTORIES))] == [by_hand(h) for h in HISTORIES]
    assert view.times is not None
    assert view.times.tolist() == [
        10 * step + user
        for user, history in enumerate(HISTORIES)
        for step, item in enumerate(history)
        if item in BY_HAND
    ]
    assert (view.num_items, view.num_users, view.num_events) == (4, 5, sum(len(by_hand(h)) for h in HISTORIES))
    assert view.catalog is KNOWN
    assert view.unknown is not None
    assert (view.unknown.items, view.unknown.events, view.unknown.users) == (3, 10, 1)


def test_targets_that_are_not_known_are_zero_and_their_histories_are_what_is_known_before(store: Store) -> None:
    view = mapped(store, KNOWN)
    asked = questions(view, Split.leave_one_out(view.whole), "test")
    # user 1 has no known item, so nothing can be asked of the model
    assert asked.users.tolist() == [0, 2, 3, 4]
    assert targets(view, asked).tolist() == [4, 0, 0, 2]
    read = {}
    for question in ask(view, asked, 3, BatchLimits(2, 100)):
        for row, items, length in zip(
            question.rows, question.batch.items.tolist(), question.batch.lengths.tolist(), strict=True
        ):
            read[int(asked.users[row])] = items[:length]
    assert read == {user: by_hand(HISTORIES[user][:-1])[-3:] for user in (0, 2, 3, 4)}
    assert had_before(view, asked).tolist() == [False, False, False, True]


def test_everyone_is_asked_for_with_all_that_is_known(store: Store) -> None:
    view = mapped(store, KNOWN)
    asked = everyone(view)
    assert asked.users.tolist() == [0, 2, 3, 4]
    lengths = view.place(asked.position) - view.offsets[asked.users]
    assert lengths.tolist() == [len(by_hand(HISTORIES[user])) for user in asked.users]


def test_training_events_of_a_view(store: Store) -> None:
    view = mapped(store, KNOWN)
    log = TrainingLog(view, Split.leave_one_out(view.whole))
    found = [item for part in log.parts() for item in part.items.tolist()]
    assert found == [item for history in HISTORIES for item in by_hand(history[:-2])]
    assert log.num_items == 4


def test_all_known_in_another_order(store: Store) -> None:
    keys = tuple(reversed(store.catalog.keys))
    view = mapped(store, Catalog(keys, keys, ()))
    assert view.items.tolist() == [7 - item for history in HISTORIES for item in history]
    assert view.times is store.times
    assert np.array_equal(view.offsets, store.offsets)
    asked = Questions(np.arange(5), np.array(store.offsets[1:]) - 1)
    assert targets(view, asked).tolist() == [7 - history[-1] for history in HISTORIES]


def test_every_piece_is_mapped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mapped(store, KNOWN)
    monkeypatch.setattr("leanrec.data.mapped.EVENTS_AT_ONCE", 3)
    pieces = mapped(store, KNOWN)
    assert whole.items.tolist() == pieces.items.tolist()
    assert whole.offsets.tolist() == pieces.offsets.tolist()
    assert pieces.times is not None and whole.times is not None
    assert whole.times.tolist() == pieces.times.tolist()


def test_a_store_of_strangers_is_refused(store: Store) -> None:
    with pytest.raises(DataError) as refused:
        mapped(store, Catalog(("x", "y"), ("x", "y"), ()))
    assert str(refused.value) == (
        f"expected items that the model knows, such as 'x', got only others, such as 'i1', in {store.path}; is it the right "
        "store?"
    )


def test_ids_by_key() -> None:
    assert item_ids(("a", "b", "c"), ("c", "a")).tolist() == [2, 0, 1]
    assert item_ids((), ("c",)).tolist() == []


def test_since_a_time(store: Store) -> None:
    split = Split.since(store, 20)
    users, at = split.targets("test")
    assert users.tolist() == [0, 1, 2, 3, 4]
    assert store.times is not None
    assert store.times[at].tolist() == [20, 21, 22, 23, 24]
    assert split.targets("valid")[0].tolist() == []
    with pytest.raises(
        DataError, match=r"expected events since 45 of users with an earlier one, got none in .* from 0 to 44"
    ):
        Split.since(store, 45)
