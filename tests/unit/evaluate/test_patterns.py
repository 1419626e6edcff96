"""How often blocks run, and how much of that is about the user."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.evaluate.patterns import decided, information, keep_rates


@st.composite
def patterns(draw: st.DrawFn) -> np.ndarray:
    """Patterns bool [U, L] of a few blocks, so that users share some."""
    users, blocks = draw(st.integers(1, 30)), draw(st.integers(1, 5))
    numbers = draw(st.lists(st.integers(0, 2**blocks - 1), min_size=users, max_size=users))
    return np.array([[bool(number >> i & 1) for i in range(blocks)] for number in numbers])


def test_keep_rates_by_hand() -> None:
    kept = np.array([[True, False, True], [True, False, False], [True, True, False], [True, False, False]])
    assert keep_rates(kept).tolist() == [1.0, 0.25, 0.25]


@given(patterns())
def test_a_keep_rate_is_a_share_of_users(kept: np.ndarray) -> None:
    expected = [sum(bool(user[block]) for user in kept) / len(kept) for block in range(kept.shape[1])]
    assert keep_rates(kept).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("pattern", [[False] * 3, [True] * 3, [True, False, True]], ids=str)
def test_one_pattern_for_all_says_nothing_of_the_user(pattern: list[bool]) -> None:
    found = information(np.array([pattern] * 7))
    assert found == 0.0 and not np.signbit(found)


@pytest.mark.parametrize("count", [2, 3, 7, 16])
@pytest.mark.parametrize("times", [1, 5])
def test_equally_frequent_patterns_say_the_logarithm_of_their_number(count: int, times: int) -> None:
    kept = np.array([[bool(number >> i & 1) for i in range(4)] for number in range(count)] * times)
    assert information(kept) == pytest.approx(np.log2(count))


def test_information_by_hand() -> None:
    kept = np.array([[True, False]] * 4 + [[False, True]] * 2 + [[True, True]] + [[False, False]])
    assert information(kept) == pytest.approx(0.5 * 1 + 0.25 * 2 + 2 * 0.125 * 3)


@given(patterns())
def test_information_is_the_entropy_of_the_patterns(kept: np.ndarray) -> None:
    shares = np.array([*Counter(map(tuple, kept.tolist())).values()]) / len(kept)
    assert information(kept) == pytest.approx(-(shares * np.log(shares)).sum() / np.log(2), abs=1e-12)


@given(patterns(), st.randoms())
def test_information_knows_no_order_of_users_or_blocks(kept: np.ndarray, random: Random) -> None:
    users, blocks = list(range(kept.shape[0])), list(range(kept.shape[1]))
    random.shuffle(users)
    random.shuffle(blocks)
    assert information(kept[users][:, blocks]) == pytest.approx(information(kept))


@given(patterns())
def test_information_is_at_most_a_bit_for_every_block_that_is_decided_per_user(kept: np.ndarray) -> None:
    rates = keep_rates(kept)
    free = int(((rates > 0) & (rates < 1)).sum())
    assert 0 <= information(kept) <= min(free, np.log2(len(kept))) + 1e-9


def kept_by(*users: int, of: int) -> np.ndarray:
    """Blocks that the first so many of the users keep."""
    return np.arange(of)[:, None] < np.array(users)


@pytest.mark.parametrize(
    ("kept", "always", "never", "per_user"),
    [
        (kept_by(100, 0, 50, 50, of=100), 0.25, 0.25, 0.5),
        (kept_by(99, 98, 1, 2, of=100), 0.25, 0.25, 0.5),
        (kept_by(98, 2, of=100), 0.0, 0.0, 1.0),
        (kept_by(990, 989, 10, 11, of=1000), 0.25, 0.25, 0.5),
        (kept_by(1, 1, 1, 1, of=1), 1.0, 0.0, 0.0),
        (kept_by(0, 0, of=3), 0.0, 1.0, 0.0),
        (kept_by(1, 1, of=2), 0.0, 0.0, 1.0),
    ],
)
def test_blocks_that_almost_all_users_treat_alike_are_not_decided_per_user(
    kept: np.ndarray, always: float, never: float, per_user: float
) -> None:
    assert decided(kept) == {"always": always, "never": never, "per_user": per_user}


@given(patterns())
def test_every_block_is_decided_in_one_way(kept: np.ndarray) -> None:
    found = decided(kept)
    assert list(found) == ["always", "never", "per_user"]
    assert sum(found.values()) == pytest.approx(1)
    assert all(-1e-12 <= share <= 1 for share in found.values())
    rates = keep_rates(kept)
    assert found["per_user"] == pytest.approx(((rates > 0.01 + 1e-9) & (rates < 0.99)).mean(), abs=1e-12)
