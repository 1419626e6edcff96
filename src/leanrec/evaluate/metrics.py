"""Ranking metrics from the rank of one target per user, and their bootstrap intervals.

HR@k   = share of users with rank <= k          (equal to Recall@k with one target)
NDCG@k = mean of 1 / log2(1 + rank) if rank <= k
MRR@k  = mean of 1 / rank if rank <= k
"""

from __future__ import annotations

import numpy as np

CUTOFFS = (5, 10, 20)
METRICS = tuple(f"{name}@{k}" for name in ("hr", "ndcg", "mrr") for k in CUTOFFS)

MISSED = 2**31 - 1
"""Rank of a target that is never recommended: a seen one where seen items are left out, or one that the model does not know."""


def listed_ranks(ids: np.ndarray, targets: np.ndarray, missing: int = MISSED) -> np.ndarray:
    """Ranks int64 [U] of the targets [U] in lists of ids [U, k], best first; ``missing`` for a target that is not listed.

    In both, 0 is no item.
    """
    found = (ids == targets[:, None]) & (ids > 0)
    return np.where(found.any(1), found.argmax(1) + 1, missing)


def gains(name: str, ranks: np.ndarray) -> np.ndarray:
    """One metric of every user, float64 [U].

    Args:
        name: For instance "ndcg@10".
        ranks: int64 [U], 1 is best.
    """
    kind, cutoff = name.split("@")
    ranks = ranks.astype(np.float64)
    value = {"hr": np.ones_like(ranks), "ndcg": 1 / np.log2(1 + ranks), "mrr": 1 / ranks}[kind]
    return np.where(ranks <= int(cutoff), value, 0.0)


def summarise(ranks: np.ndarray) -> dict[str, float]:
    """All metrics, averaged over users."""
    return {name: float(gains(name, ranks).mean()) for name in METRICS}


def intervals(ranks: np.ndarray, seed: int = 0, samples: int = 2000) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap over users of every metric.

    Metrics depend on a user only through its rank, so a resample is a multinomial draw over the distinct ranks: exact, and as
    cheap for a million users as for a thousand.
    """
    capped = np.minimum(ranks, max(CUTOFFS) + 1)
    distinct, counts = np.unique(capped, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(ranks), counts / len(ranks), size=samples)
    result = {}
    for name in METRICS:
        means = drawn @ gains(name, distinct) / len(ranks)
        low, high = np.quantile(means, [0.025, 0.975])
        result[name] = (float(low), float(high))
    return result
