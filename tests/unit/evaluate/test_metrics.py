from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.evaluate.metrics import CUTOFFS, METRICS, gains, intervals, listed_ranks, summarise

ranks = st.lists(st.integers(1, 60), min_size=1, max_size=50).map(np.array)


def test_names() -> None:
    assert METRICS == ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr@5", "mrr@10", "mrr@20")


def test_equal_to_ranx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # compiling takes longer than computing
    with warnings.catch_warnings():  # its compiler and its readers warn on import
        warnings.simplefilter("ignore")
        from ranx import Qrels, Run, evaluate

        rng = np.random.default_rng(0)
        scores = rng.random((80, 50))
        targets = rng.integers(0, 50, 80)
        qrels = Qrels({f"u{user}": {f"i{item}": 1} for user, item in enumerate(targets)})
        run = Run(
            {
                f"u{user}": {f"i{item}": float(score) for item, score in enumerate(row)}
                for user, row in enumerate(scores)
            }
        )
        names = {"hr": "hit_rate", "ndcg": "ndcg", "mrr": "mrr"}
        theirs = evaluate(qrels, run, [f"{names[name.split('@')[0]]}@{name.split('@')[1]}" for name in METRICS])
    found = (scores >= scores[np.arange(80), targets][:, None]).sum(1)
    for ours, expected in zip(summarise(found).values(), theirs.values(), strict=True):
        assert ours == pytest.approx(expected, abs=1e-9)


@given(ranks)
def test_a_mean_of_what_each_user_gains(found: np.ndarray) -> None:
    metrics = summarise(found)
    assert tuple(metrics) == METRICS
    for name, value in metrics.items():
        assert value == pytest.approx(gains(name, found).mean())
        assert gains(name, found).dtype == np.float64


@given(ranks)
def test_order_of_the_metrics(found: np.ndarray) -> None:
    metrics = summarise(found)
    for cutoff in CUTOFFS:
        hr, ndcg, mrr = (metrics[f"{name}@{cutoff}"] for name in ("hr", "ndcg", "mrr"))
        assert 0 <= mrr <= ndcg + 1e-12 and ndcg <= hr + 1e-12 and hr <= 1
    for name in ("hr", "ndcg", "mrr"):
        values = [metrics[f"{name}@{cutoff}"] for cutoff in CUTOFFS]
        assert values == sorted(values)


@given(ranks, st.integers(0, 49))
def test_a_better_rank_is_never_worse(found: np.ndarray, user: int) -> None:
    better = found.copy()
    better[user % len(found)] = max(1, better[user % len(found)] - 1)
    for after, before in zip(summarise(better).values(), summarise(found).values(), strict=True):
        assert after >= before - 1e-12


def test_by_hand() -> None:
    metrics = summarise(np.array([1, 3, 11]))
    assert metrics["hr@10"] == pytest.approx(2 / 3)
    assert metrics["ndcg@10"] == pytest.approx((1 + 1 / 2) / 3)
    assert metrics["mrr@20"] == pytest.approx((1 + 1 / 3 + 1 / 11) / 3)
    assert metrics["hr@5"] == metrics["hr@10"] < metrics["hr@20"] == 1


@given(ranks)
def test_intervals_hold_the_mean_and_repeat(found: np.ndarray) -> None:
    first = intervals(found, samples=200)
    assert first == intervals(found, samples=200)
    for name, (low, high) in first.items():
        assert 0 <= low <= high <= 1
        if len(set(found.tolist())) == 1:
            assert low == high == pytest.approx(summarise(found)[name])


def test_intervals_equal_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(1)
    found = rng.geometric(0.08, 400)
    resampled = found[rng.integers(0, 400, (3000, 400))]
    for name, (low, high) in intervals(found, samples=3000).items():
        means = gains(name, resampled.ravel()).reshape(resampled.shape).mean(1)
        expected = np.quantile(means, [0.025, 0.975])
        width = expected[1] - expected[0]
        assert (low, high) == (
            pytest.approx(expected[0], abs=0.07 * width),
            pytest.approx(expected[1], abs=0.07 * width),
        )


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    truth = float(gains("ndcg@10", rng.geometric(0.1, 10**6)).mean())
    hits = 0
    for _ in range(200):
        low, high = intervals(rng.geometric(0.1, 150), samples=300)["ndcg@10"]
        hits += low <= truth <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_ranks_of_targets_in_lists() -> None:
    ids = np.array([[3, 1, 2], [9, 8, 7], [5, 6, 4]])
    assert listed_ranks(ids, np.array([1, 5, 5]), missing=40).tolist() == [2, 40, 1]
