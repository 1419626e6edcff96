from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.errors import ConfigError, DataError
from leanrec.data import split as module
from leanrec.data.split import Split
from leanrec.data.store import Store, StoreMeta, write_store


def make(out: Path, times: list[list[int]], *, with_times: bool = True) -> Store:
    lengths = [len(user) for user in times]
    events = sum(lengths)
    return write_store(
        out,
        items=np.ones(events, np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        times=np.concatenate([np.array(user, np.int64) for user in times]) if with_times else None,
        users=pl.DataFrame({"user": [str(user) for user in range(len(times))]}),
        catalog=pl.DataFrame({"item": ["x"], "title": ["x"], "count": [events]}),
        meta=StoreMeta(1, "toy", 0, 0, 0, False, "toy", "", {}),
    )


def test_leave_one_out(tmp_path: Path) -> None:
    split = Split.leave_one_out(make(tmp_path / "s", [[1, 2, 3, 4], [1, 2], [1, 2, 3], [1]], with_times=False))
    assert split.name == "leave-one-out"
    assert split.train_end.tolist() == [2, 6, 7, 10]
    assert split.train_end.dtype == np.int64
    users, position = split.targets("valid")
    assert (users.tolist(), position.tolist()) == ([0, 2], [2, 7])
    users, position = split.targets("test")
    assert (users.tolist(), position.tolist()) == ([0, 2], [3, 8])


def test_global_time(tmp_path: Path) -> None:
    times = [[1, 2, 10, 11, 20, 21], [1, 12], [10, 11, 12], [20], [1, 25], [13]]
    split = Split.global_time(make(tmp_path / "s", times), 10, 20)
    assert split.train_end.tolist() == [2, 7, 8, 11, 13, 14]
    users, position = split.targets("valid")
    assert (users.tolist(), position.tolist()) == ([0, 1, 2], [2, 7, 9])
    users, position = split.targets("test")
    assert (users.tolist(), position.tolist()) == ([0, 4], [4, 13])


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8).map(sorted), min_size=1, max_size=6))
def test_global_time_equals_its_definition(times: list[list[int]]) -> None:
    expected: dict[str, list[tuple[int, int]]] = {"valid": [], "test": []}
    train, start = [], 0
    for user, moments in enumerate(times):
        train.append(start + sum(moment < 3 for moment in moments))
        for part, low, high in (("valid", 3, 6), ("test", 6, 99)):
            hits = [place for place, moment in enumerate(moments) if low <= moment < high and place > 0]
            expected[part] += [(user, start + hits[0])] if hits else []
        start += len(moments)
    possible = all(expected.values()) and any(moments[0] < 3 for moments in times)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TIMES_AT_ONCE", 4)
        store = make(Path(folder) / "s", times)
        if not possible:
            with pytest.raises(DataError, match="expected users in all three parts"):
                Split.global_time(store, 3, 6)
            return
        split = Split.global_time(store, 3, 6)
        assert split.train_end.tolist() == train
        for part in ("valid", "test"):
            users, position = split.targets(part)
            assert list(zip(users.tolist(), position.tolist(), strict=True)) == expected[part]


def test_time_quantiles_are_shares_of_events(tmp_path: Path) -> None:
    split = Split.time_quantiles(make(tmp_path / "s", [list(range(0, 100, 2)), list(range(1, 100, 2))]), 0.5, 0.75)
    assert split.name == "global time 49 74"
    assert split.train_end.tolist() == [25, 74]


def test_a_split_that_makes_no_sense(tmp_path: Path) -> None:
    store = make(tmp_path / "s", [[1, 2, 3], [4, 5, 6]])
    with pytest.raises(ConfigError, match=r"expected the validation window before the test window, got 5 and 5"):
        Split.global_time(store, 5, 5)
    with pytest.raises(ConfigError, match=r"expected 0 < valid < test < 1 as shares of the events, got 0\.9 and 0\.8"):
        Split.time_quantiles(store, 0.9, 0.8)
    message = r"got 2 for training, 0 for validation, 0 for test at the times 7 and 8 in .*; its times go from 1 to 6"
    with pytest.raises(DataError, match=message):
        Split.global_time(store, 7, 8)


def test_no_times_no_split_by_time(tmp_path: Path) -> None:
    store = make(tmp_path / "s", [[1, 2, 3]], with_times=False)
    for build in (lambda: Split.global_time(store, 1, 2), lambda: Split.time_quantiles(store)):
        with pytest.raises(
            DataError, match=r"expected a store with times for a split by time, got none in .*use leave-one"
        ):
            build()


def test_since_is_bounded(tmp_path: Path) -> None:
    store = make(tmp_path / "s", [[1, 2, 10, 11, 20], [1, 12], [10, 11, 12], [20, 21], [1, 25], [13]])
    split = Split.since(store, 10, 20)
    assert split.train_end.tolist() == [2, 6, 7, 10, 13, 14]
    users, position = split.targets("test")
    assert (users.tolist(), position.tolist()) == ([0, 1, 2], [2, 6, 8])
    assert Split.since(store, 10).targets("test")[0].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(
        DataError, match=r"expected events since 14 and before 20 of users with an earlier one, got none"
    ):
        Split.since(store, 14, 20)
