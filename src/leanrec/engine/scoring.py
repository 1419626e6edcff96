"""Exact top-k with NumPy, some items at a time, so that no [B, N] is ever held.

As in `items.topk`, scores are reduced to the best of every run of 64 items, and only the k runs with the best maxima are sorted. Of
later items only those are looked at that are above a user's k-th best so far.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

_RUN = 64
SCORES_HELD = 2**18
"""Scores held at once."""

Score = Callable[[np.ndarray, slice, np.ndarray], None]
"""Writes the scores of states [B, w] for a slice of columns into float32 [B, columns]."""

_local = threading.local()


def best_columns(
    score: Score,
    states: np.ndarray,
    columns: int,
    k: int,
    change: Callable[[np.ndarray, slice], None],
    tile: int = SCORES_HELD,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best columns int64 and their scores float32, both [B, k], best first.

    Args:
        score: Fills scores.
        states: [B, w].
        columns: How many scores a user has.
        k: At most ``columns``.
        change: Changes the scores [B, columns] in a slice: adds to some, and sets those that may not be returned to -inf.
        tile: Scores held at once, but for larger k.
    """
    users = len(states)
    step = max(1, min(columns, max(k, tile // users)))
    buffer = _buffer(users * step)
    best, at = np.empty((users, k), np.float32), np.empty((users, k), np.int64)
    for start in range(0, columns, step):
        places = slice(start, min(start + step, columns))
        scores = buffer[: users * (places.stop - start)].reshape(users, -1)
        score(states, places, scores)
        change(scores, places)
        if start:
            _merge(best, at, scores, start)
        else:
            at, best = best_of_scores(scores, k)
    return at, best


def _merge(best: np.ndarray, at: np.ndarray, scores: np.ndarray, start: int) -> None:
    """Put columns from ``start`` on whose scores [B, M] are above the last of ``best`` [B, k] in their places."""
    k = best.shape[1]
    higher = np.flatnonzero(scores > best[:, -1:])  # few, and fewer from tile to tile
    rows, columns = np.divmod(higher, scores.shape[1])
    users, first, count = np.unique(rows, return_index=True, return_counts=True)
    if not len(users):
        return
    values = np.full((len(users), k + count.max()), -np.inf, np.float32)
    found = np.zeros(values.shape, np.int64)
    values[:, :k], found[:, :k] = best[users], at[users]
    row = np.repeat(np.arange(len(users)), count)
    column = k + np.arange(len(rows)) - first[row]
    values[row, column], found[row, column] = scores.ravel()[higher], start + columns
    at[users], best[users] = _sorted(values, found, k)


def best_of_scores(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns int64 and values, both [B, k], of the k largest scores of [B, N], largest first."""
    users, count = scores.shape
    runs = count // _RUN
    if runs <= 2 * k:
        return _sorted(scores, None, k)
    whole = runs * _RUN
    if users == 1:
        return _largest_of_one(scores[0], whole, runs, k)
    maxima = np.empty((users, runs + count - whole), scores.dtype)
    scores[:, :whole].reshape(users, _RUN, runs).max(1, out=maxima[:, :runs])
    maxima[:, runs:] = scores[:, whole:]  # what is left over: runs of one
    chosen = np.argpartition(maxima, -k, axis=1)[:, -k:, None]
    of_run = np.arange(_RUN)
    columns = np.where(chosen < runs, chosen + runs * of_run, np.where(of_run, -1, whole + chosen - runs))
    columns = columns.reshape(users, -1)
    values = np.take_along_axis(scores, columns, 1)
    values[columns < 0] = -np.inf
    return _sorted(values, columns, k)


def _largest_of_one(scores: np.ndarray, whole: int, runs: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """As `best_of_scores` for one user, [N], with fewer calls."""
    by_run = scores[:whole].reshape(_RUN, runs)
    chosen = by_run.max(0).argpartition(runs - k)[runs - k :]
    values = np.concatenate([by_run[:, chosen].ravel(), scores[whole:]])
    at = values.argpartition(len(values) - k)[len(values) - k :]
    at = at[(-values[at]).argsort(kind="stable")]
    opened = k * _RUN
    columns = np.where(at < opened, at // k * runs + chosen[at % k], at - opened + whole)
    return columns[None], values[at][None]


def _sorted(values: np.ndarray, columns: np.ndarray | None, k: int) -> tuple[np.ndarray, np.ndarray]:
    at = np.argpartition(values, -k, axis=1)[:, -k:] if k < values.shape[1] else np.argsort(values, axis=1)
    found = np.take_along_axis(values, at, 1)
    order = np.argsort(-found, axis=1, kind="stable")
    at = np.take_along_axis(at, order, 1)
    if columns is not None:
        at = np.take_along_axis(columns, at, 1)
    return at, np.take_along_axis(found, order, 1)


def _buffer(size: int) -> np.ndarray:
    """float32 [size], kept for the next call of this thread."""
    kept: np.ndarray | None = getattr(_local, "buffer", None)
    if kept is None or len(kept) < size:
        kept = _local.buffer = np.empty(size, np.float32)
    return kept
