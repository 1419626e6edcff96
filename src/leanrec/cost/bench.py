"""The bench of `leanrec bench`: whole requests, from histories to the best items, on several models side by side."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from leanrec.core.errors import ConfigError
from leanrec.core.plain import Route
from leanrec.cost.latency import Clock, Timing, measure
from leanrec.cost.machine import machine, rss_mb


class Served(Protocol):
    """What is measured: something that answers whole requests, as a server would."""

    def recommend_ids(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        exclude: np.ndarray | None = None,
        budget: float | None = None,
        context: Mapping[str, Sequence[np.ndarray]] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, list[Route]]:
        """The k best items of each history, with what else is read of it: ids and scores [B, k], and the routes taken."""
        ...

    @property
    def reads(self) -> frozenset[str]:
        """What it reads of a history beside items."""
        ...

    @property
    def num_items(self) -> int:
        """N."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """One run at one batch size.

    Attributes:
        p50_ms: Median milliseconds of a request.
        p99_ms: 99th percentile.
        users_per_s: Users served per second of its requests.
        rss_mb: Resident memory of the process, which holds all runs, in MB.
    """

    run: str
    batch: int
    p50_ms: float
    p99_ms: float
    users_per_s: float
    rss_mb: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """One run against the first one at the same batch size; above 1 is better than the first.

    Attributes:
        p50: Median of the first over the median of this.
        users_per_s: Throughput of this over that of the first.
    """

    run: str
    batch: int
    p50: float
    users_per_s: float


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What was measured, and on what. Its fields are those of ``bench --json``."""

    machine: dict[str, str | int]
    rows: list[Row]
    ratios: list[Ratio]


def bench(
    engines: Mapping[str, Served],
    batches: Sequence[int],
    histories: Sequence[np.ndarray] | Mapping[str, Sequence[np.ndarray]],
    k: int = 10,
    seconds: float = 10.0,
    rounds: int = 1000,
    clock: Clock = time.perf_counter,
    budget: float | None = None,
) -> BenchResult:
    """Measure requests of every batch size on every engine. All get the same requests in the same order.

    Args:
        engines: Name of a run -> what answers for it; the first is what the others are compared with.
        batches: Users per request.
        histories: Item ids [S] of users, oldest first; a request takes the next ones, starting over at the end. By name of the
            run where runs number their items differently.
        k: Items asked for per user.
        seconds: Measuring time for each batch size, all engines together.
        rounds: Most requests of each engine for each batch size.
        clock: Seconds; for tests.
        budget: Mean cost wanted of models with a choice of routes, as a share of the full model's FLOPs.

    Raises:
        ConfigError: No model or history, an empty history, an item a model does not know, a batch below 1, a bad k.
    """
    own = histories if isinstance(histories, Mapping) else dict.fromkeys(engines, histories)
    _check(engines, batches, own, k)
    rows: list[Row] = []
    ratios: list[Ratio] = []
    for batch in batches:
        calls = {name: _caller(engine, _requests(own[name], batch), k, budget) for name, engine in engines.items()}
        timings = measure(calls, seconds, rounds, clock=clock)
        memory = rss_mb()
        rows += [Row(name, batch, t.p50_ms, t.p99_ms, t.users_per_s, memory) for name, t in timings.items()]
        ratios += ratios_to_first(timings, batch)
    return BenchResult(machine(), rows, ratios)


def ratios_to_first(timings: Mapping[str, Timing], batch: int) -> list[Ratio]:
    """The ratios of every run to the first."""
    first = next(iter(timings.values()))
    return [
        Ratio(name, batch, first.p50_ms / timing.p50_ms, timing.users_per_s / first.users_per_s)
        for name, timing in timings.items()
    ]


def _requests(histories: Sequence[np.ndarray], batch: int) -> Iterator[list[np.ndarray]]:
    """Endless requests of ``batch`` histories each."""
    endless = itertools.cycle(histories)
    while True:
        yield list(itertools.islice(endless, batch))


def _caller(engine: Served, requests: Iterator[list[np.ndarray]], k: int, budget: float | None) -> Callable[[], int]:
    def call() -> int:
        histories = next(requests)
        context = {name: [np.zeros(len(history), np.int64) for history in histories] for name in engine.reads}
        return len(engine.recommend_ids(histories, k, budget=budget, context=context)[0])

    return call


def _check(
    engines: Mapping[str, Served], batches: Sequence[int], histories: Mapping[str, Sequence[np.ndarray]], k: int
) -> None:
    if not engines:
        raise ConfigError("expected at least one run to measure, got none")
    if not batches or min(batches) < 1:
        raise ConfigError(f"expected batch sizes of at least 1, got {list(batches)}; 1,32,256 would work")
    for name, engine in engines.items():
        if not len(histories[name]) or min(map(len, histories[name])) < 1:
            raise ConfigError("expected histories of at least one item each to measure with, got none or an empty one")
        newest, known = max(int(history.max()) for history in histories[name]), engine.num_items
        if newest > known:
            raise ConfigError(
                f"expected runs over the same catalogue, got item {newest} for run {name!r} with {known} items; "
                "measure runs trained on one store"
            )
        if not 1 <= k <= known:
            raise ConfigError(f"expected k in 1..{known}, the items of run {name!r}, got {k}")
