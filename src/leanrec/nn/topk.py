"""Exact top-k by inner product, reading the scores once.

Scores are reduced to the best of every run of adjacent items. The k best items lie in the k runs with the best maxima, so only
those runs are sorted: with run length 64 and k = 10 that is 640 scores a user instead of the whole catalogue.
"""

from __future__ import annotations

import torch
from torch import Tensor

from leanrec.core.types import PAD

RUN = 64
CHUNK_ELEMENTS = 4 * 2**20


def top_k_of(hidden: Tensor, table: Tensor, k: int, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k best rows of ``table`` for every state. Exact; ties go to any of the tied.

    Args:
        hidden: States [B, w].
        table: Item vectors [N + 1, w]; row i is item id i, row 0 (padding) is never returned.
        k: At most N.
        exclude: int64 [B, S] item ids that may not be returned, padded with 0. Where fewer than k items remain, the
            score is -inf.

    Returns:
        Item ids int64 and scores, both [B, k], best first.
    """
    n = table.shape[0]
    rows = max(1, min(hidden.shape[0], CHUNK_ELEMENTS // n))
    buffer = hidden.new_full((rows, -(-n // RUN) * RUN), -torch.inf)
    ids, scores = [], []
    for start in range(0, hidden.shape[0], rows):
        h = hidden[start : start + rows]
        chunk = buffer[: h.shape[0]]
        torch.mm(h, table.t(), out=chunk[:, :n])
        if exclude is not None:
            chunk.scatter_(1, exclude[start : start + rows], -torch.inf)
        chunk[:, PAD] = -torch.inf
        best, index = _top_k_by_runs(chunk, k)
        ids.append(index)
        scores.append(best)
    return torch.cat(ids), torch.cat(scores)


def _top_k_by_runs(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and indices [B, k] of the largest of [B, N], N a multiple of RUN."""
    runs = scores.unflatten(1, (-1, RUN))
    if runs.shape[1] <= k:
        return scores.topk(k)
    chosen = runs.amax(-1).topk(k, sorted=False).indices
    opened = runs.gather(1, chosen.unsqueeze(-1).expand(-1, -1, RUN)).flatten(1)
    best, at = opened.topk(k)
    return best, chosen.gather(1, at // RUN) * RUN + at % RUN
