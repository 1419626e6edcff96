from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from leanrec.backbones import backbones
from leanrec.core.errors import ConfigError
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL, Batch, Route
from leanrec.cost import bench as module
from leanrec.cost.bench import Ratio, bench, ratios_to_first, request
from leanrec.cost.latency import Timing

ITEMS, MAX_LENGTH = 30, 20


class ByParity(Recommender):
    """A made-up router: users with an even newest item take half the width."""

    def routes(self, batch: Batch, budget: float | None = None) -> list[Route]:
        newest = batch.items.gather(1, batch.last[:, None]).squeeze(1)
        return [Route(width=4) if item % 2 == 0 else FULL for item in newest.tolist()]


def build(kind: type[Recommender] = Recommender, items: int = ITEMS) -> Recommender:
    torch.manual_seed(0)
    entry = backbones.get("sasrec")
    backbone = entry.build(entry.config(width=8, max_length=MAX_LENGTH, std=1.0), items)
    return kind(backbone, lambda items, states, targets: {}).eval()


def shop(lengths: Sequence[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(1, ITEMS + 1, length).astype(np.int32) for length in lengths]


HISTORIES = shop([3, 1, 25, 7, 20, 2, 9])


@given(st.lists(st.integers(1, 2 * MAX_LENGTH), min_size=1, max_size=40), st.sampled_from([0, 8, 10**9]))
@settings(max_examples=30, deadline=None)
def test_a_request_answers_every_user_as_if_alone(lengths: list[int], worth: int) -> None:
    model, histories = build(ByParity), shop(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WORTH_A_BATCH", worth)
        ids, scores = request(model, histories, 5)
    assert ids.shape == scores.shape == (len(lengths), 5)
    for row, history in enumerate(histories):
        cut = torch.from_numpy(history[-MAX_LENGTH:].astype(np.int64))[None]
        batch = Batch(cut, torch.tensor([cut.shape[1]]))
        with torch.inference_mode():
            alone = model.score(batch, model.routes(batch)[0])[0]
        torch.testing.assert_close(scores[row], alone.topk(5).values, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone[ids[row] - 1], scores[row], rtol=1e-4, atol=1e-5)


def test_long_and_short_histories_run_apart_where_it_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORTH_A_BATCH", 10)
    groups = [(rows, batch.items.shape) for rows, batch in module._by_length(shop([2, 20, 2, 3, 19]), MAX_LENGTH)]
    assert groups == [([4, 1], (2, 20)), ([0, 2, 3], (3, 3))]
    monkeypatch.setattr(module, "WORTH_A_BATCH", 1000)
    assert [rows for rows, _ in module._by_length(shop([2, 20, 2, 3, 19]), MAX_LENGTH)] == [[0, 2, 3, 4, 1]]


def test_all_runs_get_the_same_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, list[list[int]]] = {}

    def spy(model: Recommender, histories: Sequence[np.ndarray], k: int, budget: float | None) -> tuple[Tensor, Tensor]:
        seen.setdefault(id(model), []).append([len(history) for history in histories])
        return torch.zeros(len(histories), k), torch.zeros(len(histories), k)

    monkeypatch.setattr(module, "request", spy)
    bench({"a": build(), "b": build()}, [2], HISTORIES, rounds=3, seconds=99)
    first, second = seen.values()
    assert first == second
    assert list(itertools.chain(*first)) == [3, 1, 25, 7, 20, 2, 9, 3, 1, 25]


def test_rows_ratios_and_machine() -> None:
    ticks = itertools.count()
    models = {"full": build(), "lean": build(ByParity)}
    result = bench(models, [1, 4], HISTORIES, k=3, rounds=2, seconds=1e9, clock=lambda: float(next(ticks)))
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
        ({"models": {}}, "expected at least one run to measure, got none"),
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
        bench(**{"models": {"a": build()}, "batches": [1], "histories": HISTORIES, "rounds": 1, **change})
