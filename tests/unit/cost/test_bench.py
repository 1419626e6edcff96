from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from leanrec.backbones import backbones
from leanrec.core.errors import ConfigError
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL, Batch, Route
from leanrec.cost.bench import Ratio, bench, ratios_to_first
from leanrec.cost.latency import Timing
from leanrec.engine.engine import Engine
from leanrec.engine.torch_runner import TorchRunner
from toys import catalog

ITEMS, MAX_LENGTH = 30, 20


class ByParity(Recommender):
    """A made-up router: users with an even newest item take half the width."""

    def routes(self, batch: Batch, budget: float | None = None) -> list[Route]:
        newest = batch.items.gather(1, batch.last[:, None]).squeeze(1)
        return [Route(width=4) if item % 2 == 0 else FULL for item in newest.tolist()]


def build(kind: type[Recommender] = Recommender, items: int = ITEMS) -> Engine:
    torch.manual_seed(0)
    entry = backbones.get("sasrec")
    backbone = entry.build(entry.config(width=8, max_length=MAX_LENGTH, std=1.0), items)
    model = kind(backbone, lambda model, batch, states, targets: {})
    return Engine(TorchRunner(model), catalog(items), {FULL: 1}, 1)


def shop(lengths: Sequence[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(1, ITEMS + 1, length).astype(np.int32) for length in lengths]


HISTORIES = shop([3, 1, 25, 7, 20, 2, 9])


class Spy:
    """Notes the lengths of what it is asked."""

    num_items, reads = ITEMS, frozenset[str]()

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def recommend_ids(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        exclude: Any = None,
        budget: float | None = None,
        context: Any = None,
    ) -> tuple[np.ndarray, np.ndarray, list[Route]]:
        self.seen.append([len(history) for history in histories])
        return np.zeros((len(histories), k), np.int64), np.zeros((len(histories), k), np.float32), []


def test_all_runs_get_the_same_requests() -> None:
    spies = {"a": Spy(), "b": Spy()}
    bench(spies, [2], HISTORIES, rounds=3, seconds=99)
    first, second = (spy.seen for spy in spies.values())
    assert first == second
    assert list(itertools.chain(*first)) == [3, 1, 25, 7, 20, 2, 9, 3, 1, 25]


def test_rows_ratios_and_machine() -> None:
    ticks = itertools.count()
    engines = {"full": build(), "lean": build(ByParity)}
    result = bench(engines, [1, 4], HISTORIES, k=3, rounds=2, seconds=1e9, clock=lambda: float(next(ticks)))
    assert [(row.run, row.batch) for row in result.rows] == [("full", 1), ("lean", 1), ("full", 4), ("lean", 4)]
    for row in result.rows:
        assert (row.p50_ms, row.p99_ms, row.users_per_s) == (1000, 1000, row.batch)
        assert row.rss_mb > 10
    assert result.ratios == [Ratio(run, batch, 1.0, 1.0) for batch in (1, 4) for run in ("full", "lean")]
    plain = msgspec.to_builtins(result)
    assert set(plain) == {"machine", "rows", "ratios"}
    assert set(plain["rows"][0]) == {"run", "batch", "p50_ms", "p99_ms", "users_per_s", "rss_mb"}
    assert set(plain["machine"]) >= {"cpu", "cores", "threads", "torch", "date"}


def test_ratios_are_above_one_for_the_better() -> None:
    timings = {
        "full": Timing(9, 10.0, 20.0, 100.0),
        "lean": Timing(9, 4.0, 9.0, 300.0),
        "slow": Timing(9, 20.0, 9.0, 50.0),
    }
    assert ratios_to_first(timings, 8) == [
        Ratio("full", 8, 1.0, 1.0),
        Ratio("lean", 8, 2.5, 3.0),
        Ratio("slow", 8, 0.5, 0.5),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engines": {}}, "expected at least one run to measure, got none"),
        ({"batches": []}, r"expected batch sizes of at least 1, got \[\]; 1,32,256 would work"),
        ({"batches": [4, 0]}, r"expected batch sizes of at least 1, got \[4, 0\]"),
        ({"histories": []}, "expected histories of at least one item each"),
        ({"histories": shop([3, 0])}, "expected histories of at least one item each"),
        ({"histories": [np.array([31])]}, "got item 31 for run 'a' with 30 items; measure runs trained on one store"),
        ({"k": 31}, r"expected k in 1\.\.30, the items of run 'a', got 31"),
        ({"k": 0}, r"expected k in 1\.\.30"),
    ],
)
def test_bad_requests_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bench(**{"engines": {"a": build()}, "batches": [1], "histories": HISTORIES, "rounds": 1, **change})
