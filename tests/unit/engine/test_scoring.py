"""Top-k against sorting everything."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.engine.scoring import best_columns, best_of_scores


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
    at, best = best_of_scores(scores.copy(), k)
    expected = -np.sort(-scores, axis=1)[:, :k]
    assert np.array_equal(best, expected)
    assert np.array_equal(np.take_along_axis(scores, at, 1), best)
    for row in at[:, np.isfinite(best).all(0)].tolist():
        assert len(set(row)) == len(row)


@given(
    users=st.integers(1, 5),
    columns=st.integers(1, 400),
    k=st.integers(1, 12),
    tile=st.integers(1, 900),
    ascending=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_tiles(users: int, columns: int, k: int, tile: int, ascending: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    expected = rng.permuted(np.tile(np.arange(columns, dtype=np.float32), (users, 1)), axis=1)
    if ascending:  # every tile replaces all that was found before
        expected = np.sort(expected, axis=1)
    gone = rng.random((users, columns)) < rng.random()
    gone[:, rng.integers(columns)] = False
    held, k = [], min(k, columns)

    def score(states: np.ndarray, places: slice, out: np.ndarray) -> None:
        held.append(out.size)
        out[:] = expected[states[:, 0].astype(int), places]

    def change(scores: np.ndarray, places: slice) -> None:
        scores[gone[:, places]] = -np.inf

    states = np.arange(users, dtype=np.float32)[:, None]
    at, best = best_columns(score, states, columns, k, change, tile)
    reachable = np.where(gone, -np.inf, expected)
    assert np.array_equal(best, -np.sort(-reachable, axis=1)[:, :k])
    inside = np.isfinite(best)
    assert np.array_equal(np.take_along_axis(reachable, at, 1)[inside], best[inside])
    assert max(held) <= max(tile, users * k) and sum(held) == users * columns


def test_nothing_to_choose_from() -> None:
    at, best = best_columns(lambda states, places, out: None, np.zeros((3, 2)), 0, 0, lambda scores, places: None)
    assert at.shape == best.shape == (3, 0)
