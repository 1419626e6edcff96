"""The parts of the validation users: to fit on, to state figures on, and set apart to confirm a choice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanrec.build import split_of
from leanrec.config import parse
from leanrec.data.split import Split
from leanrec.data.store import Store
from toys import chain_store


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


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_who_is_fitted_on_and_who_figures_are_stated_on_never_meet(tiny_store: Store, share: float) -> None:
    whole = Split.leave_one_out(tiny_store)
    split = whole.reserved(share).halved()
    parts = {part: split.targets(part)[0].tolist() for part in ("fit", "valid", "confirm")}
    assert sorted(user for users in parts.values() for user in users) == whole.targets("valid")[0].tolist()
    assert split.users() == {part: len(users) for part, users in parts.items()} | {"test": 60}
    positions = dict(zip(*whole.targets("valid"), strict=True))
    assert all(positions[u] == at for part in parts for u, at in zip(*split.targets(part), strict=True))
    if not share:
        assert len(parts["fit"]) == len(parts["valid"]) == 30


def test_nobody_changes_sides_when_more_are_set_apart(tiny_store: Store) -> None:
    whole = Split.leave_one_out(tiny_store)
    all_of_them, fewer = whole.halved(), whole.reserved(0.25).halved()
    for part in ("fit", "valid"):
        assert set(fewer.targets(part)[0]) < set(all_of_them.targets(part)[0])


@pytest.mark.parametrize(("users", "cut"), [(19, False), (20, True)])
def test_too_few_users_are_not_cut(tmp_path: Path, users: int, cut: bool) -> None:
    split = Split.leave_one_out(chain_store(tmp_path / "few", users=users, items=9)).halved()
    assert (split.fit is not None) == cut
    assert len(split.targets("fit")[0]) == len(split.targets("valid")[0]) == (10 if cut else 19)
    assert split.users()["fit"] == (10 if cut else 0)
