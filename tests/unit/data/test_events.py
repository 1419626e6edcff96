from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.data import events as module
from leanrec.data.events import Events, NameCodes, Spool, core, group, remove, repeated, sort_by_time

Row = tuple[int, int, int]
ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(-2, 3)), min_size=1, max_size=60)


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> Iterator[None]:
    """So that every test crosses the borders of chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EVENTS_AT_ONCE", 7)
        yield


def silent(done: int, total: int) -> None:
    assert 0 < done <= total


def load(rows: list[Row], folder: Path) -> Events:
    spool = Spool(folder, True)
    for start in range(0, len(rows), 11):
        users, items, ticks = np.array(rows[start : start + 11]).T
        spool.append(users.astype(np.int32), items.astype(np.int32), ticks.astype(np.int64))
    spool.close()
    return group(spool, silent)


def listed(events: Events) -> list[Row]:
    assert events.ticks is not None
    users = np.repeat(np.arange(len(events.offsets) - 1), np.diff(events.offsets))
    return list(zip(users.tolist(), events.items.tolist(), events.ticks.tolist(), strict=True))


@given(ROWS)
def test_group_is_a_stable_sort_by_user(rows: list[Row]) -> None:
    with TemporaryDirectory() as folder:
        assert listed(load(rows, Path(folder))) == sorted(rows, key=lambda row: row[0])


@given(ROWS)
def test_sort_by_time_is_stable_and_counts_what_was_late(rows: list[Row]) -> None:
    with TemporaryDirectory() as folder:
        events = load(rows, Path(folder))
        before = listed(events)
        sort_by_time(events, silent)
        assert listed(events) == sorted(rows, key=lambda row: (row[0], row[2]))
        late = sum(a[0] == b[0] and b[2] < a[2] for a, b in pairwise(before))
        assert events.unsorted == late


@given(ROWS)
def test_repeated_marks_all_but_the_first(rows: list[Row]) -> None:
    with TemporaryDirectory() as folder:
        events = load(rows, Path(folder))
        sort_by_time(events, silent)
        left = remove(events, lambda where, users: ~repeated(events, where, users), silent)
        unique = list(dict.fromkeys(sorted(rows, key=lambda row: (row[0], row[2]))))
        assert listed(left) == unique


@given(ROWS, st.integers(1, 4), st.integers(1, 4))
def test_core_is_the_largest_set_that_passes(rows: list[Row], min_user: int, min_item: int) -> None:
    with TemporaryDirectory() as folder:
        events = load(rows, Path(folder))
        users_in, items_in, dropped = core(events, 5, min_user, min_item)
        left = remove(events, lambda where, users: users_in[users] & items_in[events.items[where]], silent)
        expected = sorted(rows, key=lambda row: row[0])
        while True:
            users, items = Counter(row[0] for row in expected), Counter(row[1] for row in expected)
            passed = [row for row in expected if users[row[0]] >= min_user and items[row[1]] >= min_item]
            if passed == expected:
                break
            expected = passed
        assert listed(left) == expected
        assert sum(dropped.values()) == len(rows) - len(expected)
        assert set(dropped) <= {"rare items", "rare users"}
        assert users_in.sum() == len({row[0] for row in expected})
        assert items_in.sum() == len({row[1] for row in expected})


def test_a_user_longer_than_a_chunk_is_whole(tmp_path: Path) -> None:
    events = load([(0, 1, tick) for tick in range(20, 0, -1)] + [(1, 1, 0)], tmp_path)
    assert [where for where, _ in events.chunks()] == [slice(0, 20), slice(20, 21)]
    sort_by_time(events, silent)
    assert events.ticks is not None and events.ticks[:20].tolist() == list(range(1, 21))


def test_without_times_nothing_is_sorted_or_repeated(tmp_path: Path) -> None:
    spool = Spool(tmp_path, False)
    spool.append(np.array([0, 0, 0], np.int32), np.array([3, 3, 1], np.int32))
    spool.close()
    events = group(spool, silent)
    sort_by_time(events, silent)
    assert events.ticks is None
    assert events.items.tolist() == [3, 3, 1]
    assert not any(repeated(events, where, users).any() for where, users in events.chunks())


@given(st.lists(st.lists(st.sampled_from(["b", "a", "ü", "", " b", "🛒"]), max_size=8), max_size=6))
def test_keys_count_first_appearances(batches: list[list[str]]) -> None:
    keys, order = NameCodes(), {}
    for batch in batches:
        expected = [order.setdefault(name, len(order)) for name in batch]
        codes = keys.codes(pl.Series(batch, dtype=pl.String))
        assert codes.dtype == np.int32
        assert codes.tolist() == expected
    assert keys.names().to_list() == list(order)
    assert keys.size == len(order)
