from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.errors import ConfigError
from leanrec.cost.latency import LEAST_ROUNDS, measure


class FakeTime:
    """A clock that only the calls move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def call(self, name: str, *seconds: float, users: int = 1) -> Callable[[], int]:
        """A call that takes the given times in turn, the last one for ever."""
        left = list(seconds)

        def run() -> int:
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return users

        return run


def test_rounds_are_interleaved_and_rotate() -> None:
    time = FakeTime()
    measure({name: time.call(name, 1.0) for name in "ABC"}, seconds=99, rounds=4, warmup=1, clock=time)
    assert "".join(time.log) == "ABC" + "ABC" + "BCA" + "CAB" + "ABC"


@given(st.integers(1, 5), st.integers(1, 12), st.floats(0, 20), st.integers(0, 3))
def test_all_calls_are_measured_equally_often(count: int, rounds: int, seconds: float, warmup: int) -> None:
    time = FakeTime()
    found = measure({str(i): time.call(str(i), i + 1.0) for i in range(count)}, seconds, rounds, warmup, time)
    calls = {timing.calls for timing in found.values()}
    assert len(calls) == 1
    assert {time.log.count(str(i)) for i in range(count)} == {calls.pop() + warmup}


def test_percentiles_and_throughput() -> None:
    time = FakeTime()
    seconds = [i / 1000 for i in range(1, 102)]
    found = measure({"a": time.call("a", *seconds, users=4)}, seconds=1e9, rounds=101, warmup=0, clock=time)["a"]
    assert found.calls == 101
    assert found.p50_ms == pytest.approx(51)
    assert found.p99_ms == pytest.approx(100)
    assert found.users_per_s == pytest.approx(4 * 101 / math.fsum(seconds))


def test_warmup_is_not_measured() -> None:
    time = FakeTime()
    found = measure({"a": time.call("a", 9.0, 9.0, 1.0)}, rounds=5, warmup=2, seconds=99, clock=time)["a"]
    assert (found.calls, found.p50_ms, found.p99_ms) == (5, 1000, 1000)


def test_no_round_starts_after_the_time_is_up() -> None:
    time = FakeTime()
    found = measure({"a": time.call("a", 1.0), "b": time.call("b", 1.0)}, seconds=9, rounds=100, warmup=0, clock=time)
    assert found["a"].calls == 5  # at 8 s the fifth round starts, at 10 s none does


def test_there_are_enough_rounds_for_a_median() -> None:
    time = FakeTime()
    assert measure({"a": time.call("a", 60.0)}, seconds=1, clock=time)["a"].calls == LEAST_ROUNDS
    assert measure({"a": time.call("a", 60.0)}, seconds=1, rounds=1, clock=time)["a"].calls == 1


@pytest.mark.parametrize(("names", "rounds"), [("", 5), ("a", 0)])
def test_nothing_to_measure_is_refused(names: str, rounds: int) -> None:
    time = FakeTime()
    with pytest.raises(ConfigError, match=f"at least one call and one round to measure, got {len(names)} and {rounds}"):
        measure({name: time.call(name, 1.0) for name in names}, rounds=rounds, clock=time)
    assert time.log == []
