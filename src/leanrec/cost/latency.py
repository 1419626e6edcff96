"""Measured cost: latency and throughput of several calls, interleaved so that all of them see the same noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from leanrec.core.errors import ConfigError

LEAST_ROUNDS = 3
"""Measured rounds, however little time there is: a median needs them."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Timing:
    """One call's measured times.

    Attributes:
        calls: How often it was measured; below about 100 calls, p99 is little more than the slowest.
        p50_ms: Median milliseconds of a call.
        p99_ms: 99th percentile.
        users_per_s: Users served, over the time of all its calls.
    """

    calls: int
    p50_ms: float
    p99_ms: float
    users_per_s: float


def measure(
    calls: Mapping[str, Callable[[], int]],
    seconds: float = 10.0,
    rounds: int = 1000,
    warmup: int = 2,
    clock: Clock = time.perf_counter,
) -> dict[str, Timing]:
    """Time several calls in turn: A B C, B C A, C A B, ...

    Every call is measured equally often. The order rotates from round to round, so none is always first or always
    after the same other one.

    Args:
        calls: Name -> what to time; it returns how many users it served.
        seconds: No round starts after that many measured seconds, once there are `LEAST_ROUNDS`.
        rounds: Most rounds.
        warmup: Unmeasured calls of each before.
        clock: Seconds; for tests.

    Raises:
        ConfigError: Nothing to measure, or fewer than one round.
    """
    if not calls or rounds < 1:
        raise ConfigError(f"expected at least one call and one round to measure, got {len(calls)} and {rounds}")
    for _ in range(warmup):
        for call in calls.values():
            call()
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    users = dict.fromkeys(names, 0)
    begin = clock()
    for done in range(rounds):
        if done >= LEAST_ROUNDS and clock() - begin >= seconds:
            break
        first = done % len(names)
        for name in names[first:] + names[:first]:
            start = clock()
            users[name] += calls[name]()
            times[name].append(clock() - start)
    return {name: _timing(times[name], users[name]) for name in names}


def _timing(times: list[float], users: int) -> Timing:
    p50, p99 = np.percentile(times, [50, 99])
    return Timing(len(times), float(p50) * 1e3, float(p99) * 1e3, users / sum(times))
