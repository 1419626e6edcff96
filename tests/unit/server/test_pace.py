"""What is foreseen of a wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.server.pace import Pace

batches = st.lists(st.tuples(st.integers(1, 128), st.floats(0, 10)), max_size=40)


@given(call=st.floats(0.001, 1), user=st.floats(0, 0.1), sizes=st.sets(st.integers(1, 128), min_size=2, max_size=9))
def test_a_line_is_found(call: float, user: float, sizes: set[int]) -> None:
    pace = Pace()
    for size in sizes:
        pace.took(size, call + user * size)
    assert pace.foresees(128, 128) == pytest.approx(call + user * 128, rel=1e-3)
    assert pace.foresees(300, 128) == pytest.approx(3 * call + user * 300, rel=1e-3)


@given(seen=batches, users=st.integers(0, 1000), more=st.integers(0, 1000))
def test_more_users_never_take_less(seen: list[tuple[int, float]], users: int, more: int) -> None:
    pace = Pace()
    for size, seconds in seen:
        pace.took(size, seconds)
    assert 0 <= pace.foresees(users, 128) <= pace.foresees(users + more, 128) + 1e-9


def test_of_one_size_nothing_is_known_of_others() -> None:
    pace = Pace()
    assert pace.foresees(1000, 64) == 0.0
    for _ in range(50):
        pace.took(1, 0.01)
    assert pace.foresees(64, 64) == pytest.approx(0.01)  # not 64 times that
    for _ in range(3):
        pace.took(64, 0.064)
    assert pace.foresees(64, 64) == pytest.approx(0.064, rel=0.01)
    assert pace.foresees(128, 64) == pytest.approx(0.128, rel=0.1)
