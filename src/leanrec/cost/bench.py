"""The bench of `leanrec bench`: whole requests, from histories to the best items, on several models side by side."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.core.recommender import Recommender, by_route
from leanrec.core.types import PAD, Batch
from leanrec.cost.latency import Clock, Timing, measure
from leanrec.cost.machine import machine, rss_mb

WORTH_A_BATCH = 512
"""Steps of padding that one more batch must save. Measured on short histories (d = 64, 2 layers, one core): as fast as
one batch at 32 users, 1.6 times as fast at 256."""


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
    models: Mapping[str, Recommender],
    batches: Sequence[int],
    histories: Sequence[np.ndarray],
    k: int = 10,
    seconds: float = 10.0,
    rounds: int = 1000,
    clock: Clock = time.perf_counter,
    budget: float | None = None,
) -> BenchResult:
    """Measure requests of every batch size on every model. All models get the same requests in the same order.

    Args:
        models: Name of a run -> its model, in eval mode; the first is what the others are compared with.
        batches: Users per request.
        histories: Item ids [S] of users, oldest first; a request takes the next ones, starting over at the end.
        k: Items asked for per user.
        seconds: Measuring time for each batch size, all models together.
        rounds: Most requests of each model for each batch size.
        clock: Seconds; for tests.
        budget: Mean cost wanted of models with a choice of routes, as a share of the full model's FLOPs.

    Raises:
        ConfigError: No model or history, an empty history, an item a model does not know, a batch below 1, a bad k.
    """
    _check(models, batches, histories, k)
    rows: list[Row] = []
    ratios: list[Ratio] = []
    for batch in batches:
        calls = {name: _caller(model, _requests(histories, batch), k, budget) for name, model in models.items()}
        timings = measure(calls, seconds, rounds, clock=clock)
        memory = rss_mb()
        rows += [Row(name, batch, t.p50_ms, t.p99_ms, t.users_per_s, memory) for name, t in timings.items()]
        ratios += ratios_to_first(timings, batch)
    return BenchResult(machine(), rows, ratios)


def ratios_to_first(timings: Mapping[str, Timing], batch: int) -> list[Ratio]:
    """Every run against the first; see `Ratio`."""
    first = next(iter(timings.values()))
    return [
        Ratio(name, batch, first.p50_ms / timing.p50_ms, timing.users_per_s / first.users_per_s)
        for name, timing in timings.items()
    ]


@torch.inference_mode()
def request(
    model: Recommender, histories: Sequence[np.ndarray], k: int, budget: float | None = None
) -> tuple[Tensor, Tensor]:
    """Answer one request: pad histories of like length together, run every user on its own route, find the best items.

    Args:
        model: The recommender, in eval mode.
        histories: Item ids [S] of B users, oldest first; only the newest the model can read are used.
        k: At most N.
        budget: As in `bench`.

    Returns:
        Item ids int64 and scores, both [B, k] on the CPU, in the order of ``histories``.
    """
    device = next(model.parameters()).device

    def answer(states: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return model.items.top_k(states, k)

    parts: list[tuple[Tensor, ...]] = []
    order: list[int] = []
    for rows, padded in _by_length(histories, model.backbone.max_length):
        batch = padded.to(device)
        parts.append(by_route(model, batch, model.routes(batch, budget), answer))
        order += rows
    back = torch.tensor(order).argsort()
    ids, scores = (torch.cat(column).cpu()[back] for column in zip(*parts, strict=True))
    return ids, scores


def _by_length(histories: Sequence[np.ndarray], most: int) -> Iterator[tuple[list[int], Batch]]:
    """Rows and right-padded batches of histories, those of like length together where that is worth a batch more."""
    cut = [history[-most:] for history in histories]
    lengths = np.array([len(history) for history in cut])
    order = np.argsort(lengths, kind="stable")
    while len(order):
        longest = lengths[order[-1]]
        short = int(np.searchsorted(lengths[order], longest // 2, side="right"))
        saved = short * (longest - lengths[order[short - 1]])
        rows = order[short if saved >= WORTH_A_BATCH else 0 :]
        yield rows.tolist(), _pad([cut[row] for row in rows], lengths[rows])
        order = order[: len(order) - len(rows)]


def _pad(histories: list[np.ndarray], lengths: np.ndarray) -> Batch:
    items = np.full((len(histories), lengths.max()), PAD, np.int64)
    items[np.arange(items.shape[1]) < lengths[:, None]] = np.concatenate(histories)
    return Batch(torch.from_numpy(items), torch.from_numpy(lengths))


def _requests(histories: Sequence[np.ndarray], batch: int) -> Iterator[list[np.ndarray]]:
    """Endless requests of ``batch`` histories each."""
    endless = itertools.cycle(histories)
    while True:
        yield list(itertools.islice(endless, batch))


def _caller(
    model: Recommender, requests: Iterator[list[np.ndarray]], k: int, budget: float | None
) -> Callable[[], int]:
    def call() -> int:
        return len(request(model, next(requests), k, budget)[0])

    return call


def _check(models: Mapping[str, Recommender], batches: Sequence[int], histories: Sequence[np.ndarray], k: int) -> None:
    if not models:
        raise ConfigError("expected at least one run to measure, got none")
    if not batches or min(batches) < 1:
        raise ConfigError(f"expected batch sizes of at least 1, got {list(batches)}; 1,32,256 would work")
    if not len(histories) or min(map(len, histories)) < 1:
        raise ConfigError("expected histories of at least one item each to measure with, got none or an empty one")
    newest = max(int(history.max()) for history in histories)
    for name, model in models.items():
        known = model.items.num_items
        if newest > known:
            raise ConfigError(
                f"expected runs over the same catalogue, got item {newest} for run {name!r} with {known} items; "
                "measure runs trained on one store"
            )
        if not 1 <= k <= known:
            raise ConfigError(f"expected k in 1..{known}, the items of run {name!r}, got {k}")
