from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.errors import DataError
from leanrec.data import batches as module
from leanrec.data.batches import (
    BatchLimits,
    Newer,
    Seen,
    TrainingData,
    ask,
    everyone,
    length_batches,
    questions,
    read_histories,
    targets,
)
from leanrec.data.split import Split
from leanrec.data.store import Store
from toys import store_of

WIDE = BatchLimits(10**6, 10**9)
histories = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=14), min_size=1, max_size=8)


def training(folder: str, users: list[list[int]], max_length: int, window: Literal["last", "all"]) -> TrainingData:
    store = store_of(Path(folder) / "s", users, 9)
    return TrainingData(store, Split.leave_one_out(store), max_length, window)


def part(history: list[int]) -> list[int]:
    """The training part of a history."""
    return history[:-2] if len(history) >= 3 else history


@given(histories, st.integers(1, 6))
def test_all_windows_cover_every_event_as_a_target_once(users: list[list[int]], max_length: int) -> None:
    with TemporaryDirectory() as folder:
        data = training(folder, users, max_length, "all")
        found = Counter()
        for user, start, end in zip(data.users, data.start, data.end, strict=True):
            assert 2 <= end - start <= max_length + 1
            found.update((user, position) for position in range(start + 1, end))
        offset, expected = 0, Counter()
        for user, history in enumerate(users):
            expected.update((user, offset + step) for step in range(1, len(part(history))))
            offset += len(history)
        assert found == expected
        assert data.targets == sum(expected.values())


@given(histories, st.integers(1, 6))
def test_the_last_window_of_everyone(users: list[list[int]], max_length: int) -> None:
    with TemporaryDirectory() as folder:
        data = training(folder, users, max_length, "last")
        chosen = [(user, part(history)) for user, history in enumerate(users) if len(part(history)) >= 2]
        assert data.users.tolist() == [user for user, _ in chosen]
        assert len(data) == len(chosen)
        if not chosen:
            return
        batch = data.batch(np.arange(len(data)))
        assert batch.targets is not None and batch.users is not None
        assert batch.users.tolist() == data.users.tolist()
        for row, (_, history) in enumerate(chosen):
            window = history[-max_length - 1 :]
            steps = len(window) - 1
            assert batch.lengths[row] == steps
            assert batch.items[row].tolist() == window[:-1] + [0] * (batch.items.shape[1] - steps)
            assert batch.targets[row].tolist() == window[1:] + [0] * (batch.items.shape[1] - steps)
        assert batch.items.dtype == batch.targets.dtype == batch.lengths.dtype == torch.int64
        assert batch.items.shape[1] == int(batch.lengths.max())


@given(histories, st.integers(1, 5), st.integers(1, 60), st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_has_every_window_once_within_the_limits(
    users: list[list[int]], most: int, tokens: int, seed: int, epoch: int
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "POOL", 2)
        data = training(folder, users, 6, "all")
        limits = BatchLimits(most, tokens)
        order = data.epoch(seed, epoch, limits)
        assert sorted(np.concatenate([*order, np.zeros(0, np.int64)]).tolist()) == list(range(len(data)))
        for windows in order:
            batch = data.batch(windows)
            assert batch.size <= most
            assert batch.size == 1 or batch.items.numel() <= tokens
        again = data.epoch(seed, epoch, limits)
        assert [windows.tolist() for windows in again] == [windows.tolist() for windows in order]


def test_seed_and_epoch_make_the_order(tiny_store: Store) -> None:
    data = TrainingData(tiny_store, Split.leave_one_out(tiny_store), 10)
    orders = [
        [windows.tolist() for windows in data.epoch(seed, epoch, BatchLimits(8, 200))]
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len({str(order) for order in orders}) == 4
    first = [windows[0] for windows in orders[0]]
    assert first != sorted(first)


def test_batches_hold_windows_of_like_length(tiny_store: Store) -> None:
    data = TrainingData(tiny_store, Split.leave_one_out(tiny_store), 20)
    padded = real = 0
    for windows in data.epoch(0, 0, BatchLimits(8, 10**6)):
        batch = data.batch(windows)
        padded, real = padded + batch.items.numel(), real + int(batch.lengths.sum())
    assert padded < 1.15 * real


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 9), st.integers(1, 100))
def test_by_length_is_sorted_whole_and_within_limits(steps: list[int], users: int, tokens: int) -> None:
    lengths = np.array(steps)
    order = np.random.default_rng(0).permutation(len(steps))
    cut = list(length_batches(order, lengths, BatchLimits(users, tokens)))
    flat = np.concatenate(cut)
    assert sorted(flat.tolist()) == list(range(len(steps)))
    assert (np.diff(lengths[flat]) >= 0).all()
    for rows in cut:
        assert 1 <= len(rows) <= users
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= tokens


def test_gather_pads_on_the_right_even_at_the_end_of_the_store() -> None:
    columns = {"time": np.array([70, 80, 90])}
    batch = read_histories(np.array([7, 8, 9], np.int32), columns, np.array([2, 0]), np.array([3, 3]))
    assert batch.items.tolist() == [[9, 0, 0], [7, 8, 9]]
    assert batch.context["time"].tolist() == [[90, 0, 0], [70, 80, 90]]
    assert batch.items.dtype == batch.context["time"].dtype == torch.int64
    assert batch.lengths.tolist() == [1, 3]


@pytest.mark.parametrize("name", ["valid", "test"])
@given(users=histories, max_length=st.integers(1, 6), most=st.integers(1, 5), tokens=st.integers(1, 60))
def test_questions_ask_for_the_held_out_events(
    name: Literal["valid", "test"], users: list[list[int]], max_length: int, most: int, tokens: int
) -> None:
    back = {"valid": 2, "test": 1}[name]
    expected = {user: history for user, history in enumerate(users) if len(history) >= 3}
    with TemporaryDirectory() as folder:
        store = store_of(Path(folder) / "s", users, 9)
        if not expected:
            with pytest.raises(
                DataError, match=rf"^expected users with a {name} target, got none in .*; users need three events$"
            ):
                questions(store, Split.leave_one_out(store), name)
            return
        asked = questions(store, Split.leave_one_out(store), name)
        assert asked.users.tolist() == list(expected)
        assert targets(store, asked).tolist() == [history[-back] for history in expected.values()]
        rows = []
        for question in ask(store, asked, max_length, BatchLimits(most, tokens)):
            batch = question.batch
            assert batch.users is not None and batch.targets is None
            assert batch.size == 1 or (batch.size <= most and batch.items.numel() <= tokens)
            for at, row in enumerate(question.rows):
                before = expected[int(asked.users[row])][:-back]
                assert batch.users[at] == asked.users[row]
                assert batch.items[at, : int(batch.lengths[at])].tolist() == before[-max_length:]
                assert not batch.items[at, int(batch.lengths[at]) :].any()
                assert question.seen.histories()[at].tolist() == before
            rows += question.rows.tolist()
        assert sorted(rows) == list(range(len(expected)))


def test_everyone_is_asked_about_what_comes_after_the_log(tmp_path: Path) -> None:
    users = [[1, 2, 3], [4], [5, 6]]
    store = store_of(tmp_path / "s", users, 9)
    found = {}
    for question in ask(store, everyone(store), 2, WIDE):
        for at, row in enumerate(question.rows):
            found[int(row)] = (
                question.batch.items[at, : int(question.batch.lengths[at])].tolist(),
                question.seen.histories()[at].tolist(),
            )
    assert found == {0: ([2, 3], [1, 2, 3]), 1: ([4], [4]), 2: ([5, 6], [5, 6])}


def test_users_with_one_event_have_no_window(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", [[1], [2, 3, 4]], 9)
    assert len(TrainingData(store, Split.leave_one_out(store), 5, "all")) == 0


def test_one_long_history_costs_its_own_user_only(tmp_path: Path) -> None:
    """Of 60 users one has 100,000 events: what is made for a batch stays as large as without that user."""
    store = store_of(tmp_path / "s", [[1, 2, 3]] * 59 + [[1, 2, 3, 4] * 25_000], 4)
    tracemalloc.start()
    found = list(ask(store, everyone(store), 5, WIDE))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(question.batch.items.numel() for question in found) <= 60 * 5
    assert peak < 1_000_000  # 60 histories padded to 100,000 events would take 48 MB


@given(lengths=st.lists(st.integers(0, 9), max_size=6), piece=st.integers(1, 7))
def test_seen_items_come_in_pieces(lengths: list[int], piece: int) -> None:
    items = np.arange(100, 200, dtype=np.int32)
    start = np.cumsum([1, *lengths])[:-1] + 2 * np.arange(len(lengths))
    seen = Seen(items, start, start + np.array(lengths, np.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SEEN_AT_ONCE", piece)
        found = list(seen.pieces())
    assert all(0 < len(rows) == len(ids) <= piece for rows, ids in found)
    pairs = [(row, item) for rows, ids in found for row, item in zip(rows.tolist(), ids.tolist(), strict=True)]
    assert pairs == [(row, int(item)) for row, history in enumerate(seen.histories()) for item in history]


def test_a_refresh_trains_on_what_is_newer_and_some_of_the_rest(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", [[1, 2, 3, 4, 5, 6]] * 20, 6)
    split, begin = Split.leave_one_out(store), np.array(store.offsets[1:])
    begin[:4] -= 3  # one newer event in the training part, two held out
    begin[4:8] -= 2  # held out ones alone

    def users(replay: float, epoch: int = 0) -> set[int]:
        data = TrainingData(store, split, 9, "last", newer=Newer(begin, replay))
        batches = data.epoch(0, epoch, WIDE)
        drawn = np.concatenate(batches)
        assert len(set(drawn.tolist())) == len(drawn)
        return set(data.users[drawn].tolist())

    assert users(0) == set(range(4))
    assert users(0.5) > set(range(4)) and len(users(0.5)) == 6
    assert users(0.5) != users(0.5, 1)
    assert users(100) == set(range(20))
