"""Counts of followers against counting pair by pair, in any number of passes and parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.followers import Counts, Pairs, add_followers, no_counts
from leanrec.core.training_events import EventsPart
from leanrec.data.split import Split
from leanrec.data.training_log import TrainingLog
from toys import store_of

ITEMS = 6


class Listed:
    """Training events that are a list of histories, in parts of so many users; of each the first ``known`` are not new."""

    def __init__(self, histories: Sequence[Sequence[int]], users: int, known: int = 0) -> None:
        self.histories, self.users, self.known, self.newest, self.num_items = histories, users, known, None, ITEMS
        self.num_events = sum(map(len, histories))

    def parts(self) -> Iterator[EventsPart]:
        for first in range(0, len(self.histories), self.users):
            some = self.histories[first : first + self.users]
            users = np.repeat(np.arange(first, first + len(some)), list(map(len, some)))
            new = np.concatenate([np.arange(len(one)) >= self.known for one in some])
            yield EventsPart(np.concatenate([np.array(one, np.int32) for one in some]), users, None, new)


def counted(events: Listed, pairs: Pairs, rows: int, held: int = 2**20) -> Counts:
    found = no_counts(ITEMS, rows)
    add_followers(found, events, pairs, held)
    return found


def by_hand(histories: Sequence[Sequence[int]], reach: int, backward: float = 0.0) -> dict[int, dict[int, float]]:
    found: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for history in histories:
        for at, item in enumerate(history):
            for d, follower in enumerate(history[at + 1 : at + 1 + reach], start=1):
                found[item][follower] += 1 / d
                found[follower][item] += backward / d
    return found


@given(
    st.lists(st.lists(st.integers(1, ITEMS), min_size=1, max_size=8), min_size=1, max_size=8),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.25, 1.0]),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 40),
)
def test_counts_in_any_number_of_passes(
    histories: list[list[int]], reach: int, backward: float, rows: int, users: int, held: int
) -> None:
    found = counted(Listed(histories, users), Pairs(reach, backward), rows, held)
    wanted = by_hand(histories, reach, backward)
    for item in range(1, ITEMS + 1):
        followers = sorted(wanted[item].items(), key=lambda pair: (-round(pair[1], 9), pair[0]))
        assert found.totals[item] == pytest.approx(sum(wanted[item].values()))
        kept = followers[:rows] + [(0, 0.0)] * (rows - len(followers))
        np.testing.assert_allclose(found.counts[item], [count for _, count in kept], rtol=1e-6)
        for place, (follower, count) in enumerate(zip(found.ids[item], found.counts[item], strict=True)):
            assert wanted[item].get(int(follower), 0.0) == pytest.approx(count), place  # of equal ones any
    assert not found.ids[0].any() and found.totals[0] == 0


@given(
    st.lists(st.lists(st.integers(1, ITEMS), min_size=1, max_size=8), min_size=1, max_size=8),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.25]),
    st.integers(1, ITEMS),
    st.integers(0, 8),
    st.integers(1, 40),
)
def test_newer_events_are_added(
    histories: list[list[int]], reach: int, backward: float, rows: int, known: int, held: int
) -> None:
    pairs = Pairs(reach, backward)
    found = counted(Listed([history[:known] or [1] for history in histories], 2), pairs, rows)
    before = Counts(*(array.copy() for array in found))
    add_followers(found, Listed(histories, 3, known), pairs, held)
    wanted, whole = by_hand(histories, reach, backward), counted(Listed(histories, 2), pairs, rows)
    np.testing.assert_allclose(found.totals, whole.totals, rtol=1e-6)
    for item in range(1, ITEMS + 1):
        cut = before.counts[item, -1]  # what was cut off was no more than this
        for follower, count in zip(found.ids[item], found.counts[item], strict=True):
            true = wanted[item].get(int(follower), 0.0)
            assert true - cut - 1e-6 <= count <= true + 1e-6
        if not cut:
            np.testing.assert_allclose(found.counts[item], whole.counts[item], rtol=1e-6)


def test_nothing_of_validation_or_test_is_counted(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", [[1, 2, 3, 4], [5, 6], [2, 1, 5, 6, 3]], ITEMS)
    log = TrainingLog(store, Split.leave_one_out(store), at_once=1)
    assert [part.items.tolist() for part in log.parts()] == [[1, 2], [5, 6], [2, 1, 5]]
    assert log.num_events == 7 and log.newest is None
