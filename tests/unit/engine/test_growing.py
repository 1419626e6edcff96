"""A table that grows while it is read answers as one that had counted the same events; it fades, and it is bounded."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from leanrec.core.followers import Pairs, add_followers, no_counts
from leanrec.core.plain import FULL, NO_NETWORK, Route
from leanrec.engine.additions import Added, EvidenceTable
from leanrec.engine.batches import Histories
from leanrec.engine.growing import Followed, Growing
from unit.core.test_followers import ITEMS, Listed

HOUR = 3600.0
PAIRS = Pairs(2, 0.25)
OLD = [[1, 2, 3, 4], [2, 3, 1, 5], [4, 1, 2]]
NEW = [[1, 6, 2], [6, 1], [5, 6, 6, 3], [3, 2, 5]]
READ = [[6, 4, 1, 2], [3], [5, 6], [1, 1, 6], [2, 5, 4, 6, 3]]


class Clock:
    now = 1_600_000_000.0

    def __call__(self) -> float:
        return self.now


def table(histories: list[list[int]], power: float = 0.5) -> EvidenceTable:
    """With rows wide enough that nothing is cut."""
    rng = np.random.default_rng(3)
    counts = no_counts(ITEMS, ITEMS)
    worth = rng.uniform(0.5, 2, ITEMS + 1).astype(np.float32)
    empty = EvidenceTable(
        counts.ids,
        counts.counts,
        np.array([3.0, 2.0, 1.0], np.float32),
        np.full(3, 0.1, np.float32),
        rng.normal(size=5).astype(np.float32) / 4,
        counts.totals,
        worth,
        np.array([PAIRS.reach, power, PAIRS.backward], np.float32),
        np.array([[1.0, 2.0, 0.5], [0.3, 0.2, 0.1]], np.float32),
    )
    add_followers(counts, Listed(histories, 2), PAIRS)
    return empty.recounted(counts)


def pairs(histories: list[list[int]], at: float, backward: float = PAIRS.backward) -> Followed:
    found = [
        pair
        for history in histories
        for place, item in enumerate(history)
        for d in range(1, min(PAIRS.reach, place) + 1)
        for pair in ((history[place - d], item, 1 / d, at), (item, history[place - d], backward / d, at))
        if pair[2]
    ]
    return Followed(*map(np.array, zip(*found, strict=True)))


def asked(histories: list[list[int]] = READ) -> Histories:
    lengths = np.array([len(history) for history in histories])
    padded = np.array([[*history, *[0] * (int(lengths.max()) - len(history))] for history in histories])
    return Histories(padded, lengths)


def dense(found: Added) -> np.ndarray:
    """float32 [B, N + 1]; entries of an item are equal."""
    out = np.zeros((len(found.ids), ITEMS + 1), np.float32)
    for user, (ids, values) in enumerate(zip(found.ids, found.values, strict=True)):
        out[user, ids] = values
    out[:, 0] = 0
    return out


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("entries", [5, ITEMS])
@pytest.mark.parametrize("route", [FULL, NO_NETWORK], ids=str)
def test_it_answers_as_a_table_that_had_counted_them(power: float, entries: int, route: Route) -> None:
    clock = Clock()
    growing = Growing(table(OLD, power=power), HOUR, rows=ITEMS, entries=entries, clock=clock)
    before = table(OLD, power=power).on(route).added(asked())
    np.testing.assert_array_equal(growing.added(asked(), route).values, before.values)
    for some in NEW:
        growing.learn(pairs([some], clock.now))
    found, wanted = growing.added(asked(), route), table(OLD + NEW, power=power).on(route).added(asked())
    np.testing.assert_allclose(dense(found), dense(wanted), rtol=1e-5, atol=1e-6)
    assert growing.rows == 5 and 0 < growing.entries <= growing.rows * (ITEMS + entries) and growing.bytes < 10_000


def test_events_fade_and_the_table_stays() -> None:
    clock = Clock()
    growing = Growing(table(OLD), HOUR, rows=ITEMS, entries=ITEMS, clock=clock)
    growing.learn(pairs(NEW, clock.now))
    clock.now += HOUR
    growing.learn(pairs(NEW, clock.now))
    clock.now += HOUR
    counts = table(OLD).counts()
    more = no_counts(ITEMS, ITEMS)
    add_followers(more, Listed(NEW, 2), PAIRS)
    wide = no_counts(ITEMS, ITEMS)
    for share, part in ((1, counts), (0.75, more)):  # a half of a half, and a half
        for row in range(ITEMS + 1):
            for item, count in zip(part.ids[row], part.counts[row], strict=True):
                wide.counts[row, item - 1] += share * count * (item > 0)
    wide.ids[1:] = np.arange(1, ITEMS + 1)
    wide.totals[:] = counts.totals + 0.75 * more.totals
    np.testing.assert_allclose(
        dense(growing.added(asked())), dense(table(OLD).recounted(wide).added(asked())), rtol=1e-5, atol=1e-6
    )
    clock.now += 1000 * HOUR
    np.testing.assert_allclose(dense(growing.added(asked())), dense(table(OLD).added(asked())), rtol=1e-6)
    growing.learn(pairs(NEW, clock.now))  # scales what is kept anew
    fresh = Growing(table(OLD), HOUR, rows=ITEMS, entries=ITEMS, clock=clock)
    fresh.learn(pairs(NEW, clock.now))
    np.testing.assert_allclose(dense(growing.added(asked())), dense(fresh.added(asked())), rtol=1e-5)


def test_the_weakest_leave() -> None:
    clock = Clock()
    growing = Growing(table([[1, 2]]), HOUR, rows=2, entries=1, clock=clock)
    for history in ([3, 4], [3, 4], [3, 5], [4, 5], [4, 5], [5, 6]):
        growing.learn(pairs([history], clock.now, 0))
    assert growing.rows == 2 and growing.entries == 2
    mass = dense(growing.added(asked([[3], [4], [5]])))
    assert mass[0, 4] > 0 and mass[0, 5] == 0 and mass[1, 5] == 0 and mass[2, 6] > 0
    clock.now += 3 * HOUR
    growing.learn(pairs([[3, 6]], clock.now, 0))
    mass = dense(growing.added(asked([[3]])))
    assert mass[0, 6] > 0 and mass[0, 4] == 0  # a new follower is worth more than two old ones


def test_answers_with_what_was_learned_are_told() -> None:
    clock = Clock()
    growing = Growing(table(OLD), HOUR, rows=ITEMS, entries=ITEMS, clock=clock)
    growing.learn(pairs([[1, 6]], clock.now, 0))
    found = growing.added(asked([[1], [2], [1]]))
    growing.tally(np.array([[6, 2], [6, 3], [2, 3]]), found)
    assert (growing.answers, growing.lifted) == (3, 1)
    growing.tally(np.array([[6, 2]]), growing.added(asked([[2]])))
    assert (growing.answers, growing.lifted) == (4, 1)


def test_it_is_read_while_it_learns() -> None:
    clock, faults = Clock(), []
    growing = Growing(table(OLD), HOUR, rows=ITEMS, entries=2, clock=clock)

    def read() -> None:
        for _ in range(300):
            if not np.isfinite(growing.added(asked()).values).all():
                faults.append("not finite")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    rng = np.random.default_rng(0)
    for _ in range(200):
        clock.now += HOUR
        growing.learn(pairs([rng.integers(1, ITEMS + 1, 6).tolist()], clock.now))
    for reader in readers:
        reader.join()
    assert faults == []
