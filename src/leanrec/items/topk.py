"""Exact top-k by inner product, without sorting the catalogue.

Two savings, neither of which changes an answer:

1. Scores are reduced to the best of every run of 64 items. The k best items lie in the k runs with the best maxima, and there in
   the k parts of 16 items with the best maxima, so only those are sorted: with k = 10 that is 160 scores a user instead of the
   catalogue. With R runs, run r holds the items r, r + R, r + 2 R, ...: a reduction over rows of a [64, R] view, which processors
   do fast.
2. Where the processor has instructions for bfloat16, a product in it screens the catalogue and only the best candidates are scored
   again in float32. The rounding error of the screen has a bound; a user for whom the bound leaves any doubt is scored in float32
   throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.types import PAD
from leanrec.items import bfloat16

RUN, PART = 64, 16
"""Items of a run, and of each part of it; powers of two."""
SCORES_PER_CHUNK = 2 * 2**20
"""Scores that are held at once."""
SCREENS = ((10, 20), (40, 150))
"""Runs opened and items scored again beyond k: a first screen, and a wider one for those that it leaves in doubt."""
FEWEST_ROWS, FEWEST_ITEMS = 16, 4096
"""Smaller products do not gain from a screen."""
ROUNDING = 2.0**-9
"""Relative rounding error of bfloat16."""
_STATES_MULTIPLE = 16
"""Rows of bfloat16 products come in multiples of it: a program is compiled and kept for every shape that a product has."""


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
    if len(hidden) == 1:
        return _of_one(hidden[0], table, k, exclude)
    if not (hidden.dtype == torch.float32 and len(hidden) >= FEWEST_ROWS and bfloat16.native(hidden.device.type)):
        return _top_k(hidden, table, k, exclude)
    ids = torch.empty(len(hidden), k, dtype=torch.int64, device=hidden.device)
    scores = hidden.new_empty(len(hidden), k)
    left = torch.arange(len(hidden), device=hidden.device)
    low = F.pad(table.bfloat16(), (0, 0, 0, -len(table) % RUN))  # that product is fast only into contiguous memory
    for spare in SCREENS:
        if len(left) and len(table) >= max(FEWEST_ITEMS, RUN * (k + spare[0] + 1)):
            gone = None if exclude is None else exclude[left]
            found, score, certain = screened_top_k(hidden[left], table, low, k, gone, spare)
            sure = left[certain]
            ids[sure], scores[sure] = found[certain], score[certain]
            left = left[~certain]
    if len(left):
        ids[left], scores[left] = _top_k(hidden[left], table, k, None if exclude is None else exclude[left])
    return ids, scores


def _of_one(hidden: Tensor, table: Tensor, k: int, exclude: Tensor | None) -> tuple[Tensor, Tensor]:
    """As `top_k_of` for one state [w]: a product and a top-k, for which no buffer is worth its making."""
    scores = torch.mv(table, hidden)
    scores[PAD] = -torch.inf
    if exclude is not None:
        scores[exclude[0]] = -torch.inf
    best, ids = scores.topk(k)
    return ids.masked_fill_(best == -torch.inf, PAD)[None], best[None]


@torch.no_grad()
def best_of(scores: Tensor, k: int, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k best of all items by their scores [B, N]; otherwise as `top_k_of`."""
    scores = F.pad(scores, (1, 0), value=-torch.inf)
    if exclude is not None:
        scores.scatter_(1, exclude, -torch.inf)
    best, ids = scores.topk(k)
    return ids.masked_fill(best == -torch.inf, PAD), best


@torch.no_grad()
def top_k_by(
    score: Callable[[Tensor], Tensor], hidden: Tensor, k: int, exclude: Tensor | None, rows: int
) -> tuple[Tensor, Tensor]:
    """The k best items of states [B, w], by the scores [M, N] of ``rows`` of them at a time; otherwise as `top_k_of`."""
    gone = [None] * -(-len(hidden) // rows) if exclude is None else exclude.split(rows)
    found = [best_of(score(few), k, left_out) for few, left_out in zip(hidden.split(rows), gone, strict=True)]
    ids, scores = (torch.cat(column) for column in zip(*found, strict=True))
    return ids, scores


def _top_k(hidden: Tensor, table: Tensor, k: int, exclude: Tensor | None) -> tuple[Tensor, Tensor]:
    """Top-k from float32 scores."""
    ids, scores = [], []
    for _, chunk in _score_chunks(hidden, table, len(table), exclude):
        if chunk.shape[1] <= k * RUN:
            best, index = chunk.topk(k)
        else:
            best, index, _ = _best_in(chunk, k, k)
        ids.append(index.masked_fill(best == -torch.inf, PAD))
        scores.append(best)
    return torch.cat(ids), torch.cat(scores)


def screened_top_k(
    hidden: Tensor, table: Tensor, low: Tensor, k: int, exclude: Tensor | None, spare: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Top-k by a bfloat16 screen, and bool [B] whether it is certain to be that of float32.

    Args:
        hidden: States [B, w].
        table: Item vectors [N + 1, w].
        low: The same in bfloat16, padded to whole runs.
        k: Items wanted.
        exclude: int64 [B, S].
        spare: Runs opened and items scored again beyond k.
    """
    error = ROUNDING * 2.1 * hidden.norm(dim=1) * table.norm(dim=1).max()  # of rounding the factors
    ids, scores, certain = [], [], []
    for rows, chunk in _score_chunks(hidden.bfloat16(), low, len(table), exclude):
        screened, candidates, rest = _best_in(chunk, k + spare[0], k + spare[1])
        within = candidates.clamp_max(len(table) - 1)  # padding may stand where nearly all items are left out
        exact = (F.embedding(within, table) @ hidden[rows].unsqueeze(-1)).squeeze(-1)
        exact = exact.masked_fill(screened == -torch.inf, -torch.inf)
        best, at = exact.topk(k)
        # no item left out was screened above this, nor can it have a float32 score above the ceiling
        rest = torch.maximum(rest, screened.amin(1)).float()
        ceiling = rest + ROUNDING * 1.1 * rest.abs() + error[rows]
        ids.append(candidates.gather(1, at).masked_fill(best == -torch.inf, PAD))
        scores.append(best)
        certain.append((ceiling <= best[:, -1]) | (rest == -torch.inf))
    return torch.cat(ids), torch.cat(scores), torch.cat(certain)


def _score_chunks(hidden: Tensor, table: Tensor, n: int, exclude: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Rows of ``hidden`` and their scores with the first ``n`` rows of ``table``, padded to whole runs.

    Padding and excluded items score -inf. The buffer is reused.
    """
    width, count, tile = -(-n // RUN) * RUN, len(hidden), _STATES_MULTIPLE if hidden.dtype is torch.bfloat16 else 1
    hidden = F.pad(hidden, (0, 0, 0, -count % tile))
    step = max(tile, min(len(hidden), SCORES_PER_CHUNK // n // tile * tile))
    buffer = hidden.new_empty(step, width)
    for start in range(0, count, step):
        product = hidden[start : start + step]
        torch.mm(product, table.t(), out=buffer[: len(product), : table.shape[0]])
        rows = slice(start, min(start + step, count))
        chunk = buffer[: rows.stop - start]
        chunk[:, n:] = -torch.inf
        if exclude is not None:
            chunk.scatter_(1, exclude[rows], -torch.inf)
        chunk[:, PAD] = -torch.inf
        yield rows, chunk


def _best_in(scores: Tensor, runs: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best of the best runs, found without sorting what cannot be among them.

    Of all runs those with the best maxima are opened, and of the parts of these again.

    Args:
        scores: [B, RUN * R].
        runs: How many runs are opened, and how many parts; below R.
        k: Items wanted, at most ``runs * PART``.

    Returns:
        Scores and item ids [B, k], best first, and the best score [B] that an item of what stayed closed may have.
    """
    parts = scores.unflatten(1, (PART, -1))  # [B, PART, R * RUN / PART]
    best_of_part = _largest(parts)
    of_run = best_of_part.unflatten(1, (RUN // PART, -1))  # [B, RUN / PART, R]
    maxima, chosen = _largest(of_run).topk(runs, sorted=False)
    inside = of_run.gather(2, chosen.unsqueeze(1).expand(-1, RUN // PART, -1)).flatten(1)
    highest, at = inside.topk(runs, sorted=False)
    columns = at // runs * of_run.shape[2] + chosen.gather(1, at % runs)
    opened = parts.gather(2, columns.unsqueeze(1).expand(-1, PART, -1)).flatten(1)
    best, at = opened.topk(k)
    ids = at // runs * parts.shape[2] + columns.gather(1, at % runs)
    return best, ids, torch.maximum(maxima.amin(1), highest.amin(1))


def _largest(scores: Tensor) -> Tensor:
    """The best [B, R] of scores [B, a power of two, R]. Halving is faster than ``amax``, most of all in bfloat16."""
    while scores.shape[1] > 1:
        half = scores.shape[1] // 2
        scores = torch.maximum(scores[:, :half], scores[:, half:])
    return scores[:, 0]
