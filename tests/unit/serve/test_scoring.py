"""Top-k against sorting everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.serve import scoring
from leanrec.serve.scoring import best_columns, largest


@given(
    users=st.integers(1, 4),
    columns=st.sampled_from([1, 7, 64, 129, 1000, 1344]),
    share=st.floats(0, 1),
    gone=st.integers(0, 900),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_the_largest(users: int, columns: int, share: float, gone: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(columns, dtype=np.float32), (users, 1)), axis=1)
    scores[:, rng.permutation(columns)[: min(gone, columns - 1)]] = -np.inf
    k = max(1, round(share * min(columns, 40)))
    at, best = largest(scores.copy(), k)
    expected = -np.sort(-scores, axis=1)[:, :k]
    assert np.array_equal(best, expected)
    assert np.array_equal(np.take_along_axis(scores, at, 1), best)
    for row in at[:, np.isfinite(best).all(0)].tolist():
        assert len(set(row)) == len(row)


def test_few_users_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", 250)
    rng = np.random.default_rng(0)
    states, table = rng.standard_normal((5, 4), np.float32), rng.standard_normal((100, 4), np.float32)
    seen: list[int] = []

    def score(states: np.ndarray, out: np.ndarray) -> None:
        seen.append(len(states))
        np.matmul(states, table.T, out=out)

    at, best = best_columns(score, states, 100, 3, lambda scores, rows: None)
    assert seen == [2, 2, 1]
    assert np.array_equal(at, np.argsort(-(states @ table.T), axis=1)[:, :3])
    assert best.shape == (5, 3)
