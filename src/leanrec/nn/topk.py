"""Exact top-k by inner product, without sorting the catalogue.

Two savings, neither of which changes an answer:

1. Scores are reduced to the best of every run of 64 items. The k best items lie in the k runs with the best maxima, so only
   those runs are sorted: with k = 10 that is 640 scores a user instead of the catalogue. With R runs, run r holds the items
   r, r + R, r + 2 R, ...: a reduction over rows of a [64, R] view, which processors do fast.
2. Where the processor multiplies bfloat16 faster, that product screens the catalogue and only the best candidates are scored
   again in float32. The rounding error of the screen has a bound; a user for whom the bound leaves any doubt is scored in float32
   throughout.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.types import PAD

RUN = 64
CHUNK_ELEMENTS = 2 * 2**20
SPARE_RUNS, SPARE_ITEMS = 10, 30
"""Runs opened and items scored again beyond k in a screen."""
FEWEST_ROWS, FEWEST_ITEMS = 16, 4096
"""Smaller products do not gain from a screen."""
ROUNDING = 2.0**-9
"""Relative rounding error of bfloat16."""


@torch.no_grad()
def top_k_of(hidden: Tensor, table: Tensor, k: int, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k best rows of ``table`` for every state. Exact; ties go to any of the tied.

    Args:
        hidden: States [B, w].
        table: Item vectors [N + 1, w]; row i is item id i, row 0 (padding) is never returned.
        k: At most N.
        exclude: int64 [B, S] item ids that may not be returned, padded with 0. Where fewer than k items remain, the
            score is -inf and the id 0.

    Returns:
        Item ids int64 and scores, both [B, k], best first.
    """
    worth_it = len(hidden) >= FEWEST_ROWS and len(table) >= max(FEWEST_ITEMS, RUN * (k + SPARE_RUNS + 2))
    if not (worth_it and hidden.dtype == torch.float32 and bfloat16_pays(hidden.device.type)):
        return _top_k(hidden, table, k, exclude)
    ids, scores, certain = _screened_top_k(hidden, table, k, exclude)
    doubtful = (~certain).nonzero().squeeze(1)
    if len(doubtful):
        again = _top_k(hidden[doubtful], table, k, None if exclude is None else exclude[doubtful])
        ids[doubtful], scores[doubtful] = again
    return ids, scores


def _top_k(hidden: Tensor, table: Tensor, k: int, exclude: Tensor | None) -> tuple[Tensor, Tensor]:
    """Top-k from float32 scores."""
    ids, scores = [], []
    for _, chunk in _score_chunks(hidden, table, exclude):
        runs = chunk.unflatten(1, (RUN, -1))
        if runs.shape[2] <= k:
            best, index = chunk.topk(k)
        else:
            best, index = _best_in(runs, _largest(runs).topk(k, sorted=False).indices, k)
        ids.append(index.masked_fill(best == -torch.inf, PAD))
        scores.append(best)
    return torch.cat(ids), torch.cat(scores)


def _screened_top_k(hidden: Tensor, table: Tensor, k: int, exclude: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Top-k by a bfloat16 screen, and bool [B] whether it is certain to be that of float32."""
    largest = table.norm(dim=1).max()
    ids, scores, certain = [], [], []
    for rows, chunk in _score_chunks(hidden.bfloat16(), table.bfloat16(), exclude):
        h = hidden[rows]
        runs = chunk.unflatten(1, (RUN, -1))
        maxima, chosen = _largest(runs).float().topk(k + SPARE_RUNS + 1)
        screened, candidates = _best_in(runs, chosen[:, :-1], k + SPARE_ITEMS + 1)
        candidates = candidates[:, :-1]
        exact = (F.embedding(candidates, table) @ h.unsqueeze(-1)).squeeze(-1)
        exact = exact.masked_fill(screened[:, :-1] == -torch.inf, -torch.inf)
        best, at = exact.topk(k)
        # no item left out can have a float32 score above this
        rest = torch.maximum(maxima[:, -1], screened[:, -1].float())
        ceiling = rest + ROUNDING * (1.1 * rest.abs() + 2.1 * h.norm(dim=1) * largest)
        ids.append(candidates.gather(1, at).masked_fill(best == -torch.inf, PAD))
        scores.append(best)
        certain.append((ceiling <= best[:, -1]) | (rest == -torch.inf))
    return torch.cat(ids), torch.cat(scores), torch.cat(certain)


def _score_chunks(hidden: Tensor, table: Tensor, exclude: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Rows of ``hidden`` and their scores, padded to whole runs; padding and excluded items at -inf. The buffer is reused."""
    n = table.shape[0]
    width = -(-n // RUN) * RUN
    if table.dtype == torch.bfloat16:  # that product is fast only into contiguous memory
        table = F.pad(table, (0, 0, 0, width - n))
    step = max(1, min(len(hidden), CHUNK_ELEMENTS // n))
    buffer = hidden.new_empty(step, width)
    for start in range(0, len(hidden), step):
        rows = slice(start, min(start + step, len(hidden)))
        chunk = buffer[: rows.stop - start]
        torch.mm(hidden[rows], table.t(), out=chunk[:, : table.shape[0]])
        chunk[:, n:] = -torch.inf
        if exclude is not None:
            chunk.scatter_(1, exclude[rows], -torch.inf)
        chunk[:, PAD] = -torch.inf
        yield rows, chunk


def _largest(runs: Tensor) -> Tensor:
    """The best score [B, R] of every run [B, RUN, R]. Halving is faster than ``amax``, most of all in bfloat16."""
    while runs.shape[1] > 1:
        half = runs.shape[1] // 2
        runs = torch.maximum(runs[:, :half], runs[:, half:])
    return runs[:, 0]


def _best_in(runs: Tensor, chosen: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and item ids [B, k] of the best scores in the chosen runs [B, C] of [B, RUN, R]."""
    opened = runs.gather(2, chosen.unsqueeze(1).expand(-1, RUN, -1)).flatten(1)
    best, at = opened.topk(k)
    count = chosen.shape[1]
    return best, at // count * runs.shape[2] + chosen.gather(1, at % count)


@lru_cache
def bfloat16_pays(device: str) -> bool:
    """Whether a bfloat16 matrix product takes less than two thirds of the time of a float32 one here. Measured once."""
    seconds = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for _ in range(4):
        for dtype in seconds:
            left, right = (
                torch.ones(64, 64, dtype=dtype, device=device),
                torch.ones(64, 16384, dtype=dtype, device=device),
            )
            started = time.perf_counter()
            torch.mm(left, right).sum().item()
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - started)
    return seconds[torch.bfloat16] < seconds[torch.float32] * 2 / 3
