"""Validation users that are set apart to confirm a choice."""

from __future__ import annotations

import numpy as np

from leanrec.build import split_of
from leanrec.config import parse
from leanrec.data.split import Split
from leanrec.data.store import Store


def test_they_are_a_share_of_the_validation_users_and_no_longer_among_them(tiny_store: Store) -> None:
    whole = Split.leave_one_out(tiny_store)
    split = whole.reserved(0.25)
    choose, confirm = split.targets("valid")[0], split.targets("confirm")[0]
    assert len(confirm) == round(0.25 * len(whole.targets("valid")[0]))
    assert not set(choose) & set(confirm)
    assert sorted([*choose, *confirm]) == whole.targets("valid")[0].tolist()
    positions = dict(zip(*whole.targets("valid"), strict=True))
    assert dict(zip(*split.targets("confirm"), strict=True)) == {user: positions[user] for user in confirm}


def test_training_and_test_stay_as_they_are_and_the_draw_is_the_same_every_time(tiny_store: Store) -> None:
    whole = Split.leave_one_out(tiny_store)
    one, two = whole.reserved(0.5), whole.reserved(0.5)
    assert np.array_equal(one.train_end, whole.train_end) and np.array_equal(one.test, whole.test)
    assert np.array_equal(one.targets("confirm")[0], two.targets("confirm")[0])
    assert len(whole.targets("confirm")[0]) == 0


def test_a_configuration_asks_for_them(tiny_store: Store) -> None:
    tree = {"backbone": {"name": "sasrec"}, "data": {"confirm": 0.5}}
    assert len(split_of(tiny_store, parse(tree)).targets("confirm")[0]) == 30
