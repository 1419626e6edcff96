"""Ranks of targets over the full catalogue, every user on its own route."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from leanrec.core.by_route import by_route
from leanrec.core.evidence import Additions
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch, Route
from leanrec.data.batches import QuestionBatch, Seen
from leanrec.evaluate.metrics import MISSED

Choose = Callable[[Batch], list[Route]]
RANKED_AT_ONCE = 4 * 2**20
"""Scores that are made at a time."""
ADDED_AT_ONCE = 128
"""Users whose additions are made at a time; each may have thousands."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Every evaluated user.

    Attributes:
        ranks: int64 [U], 1 is best; `MISSED` for a target that cannot be recommended.
        routes: The route each user took.
    """

    ranks: np.ndarray
    routes: list[Route]


@torch.inference_mode()
def rank(
    model: Recommender,
    asked: Iterable[QuestionBatch],
    targets: np.ndarray,
    exclude_seen: bool = False,
    routes: Choose | None = None,
    budget: float | None = None,
) -> Ranking:
    """Rank every target among the N items.

    Ties count against the model. With ``exclude_seen`` the items of the whole history leave the ranking, as they would in a
    deployed recommender; a target that was seen before cannot be recommended then and is missed, as one that is not known.

    Args:
        model: The recommender, in eval mode.
        asked: Batches of questions.
        targets: int64 [U], the item that each question asks for; 0 for one that the model does not know.
        exclude_seen: Leave out the items of each user's history.
        routes: The route of every user of a batch; by default those the model chooses.
        budget: Mean cost at which the model chooses, as a share of its FLOPs; None for its usual one.
    """
    ranks = np.zeros(len(targets), np.int64)
    taken: list[Route] = [Route()] * len(targets)
    device = next(model.parameters()).device
    for question in asked:
        batch = question.batch.to(device)
        wanted = torch.from_numpy(targets[question.rows]).clamp(min=1).to(device)
        seen = question.seen if exclude_seen else None
        own = model.routes(batch, budget) if routes is None else routes(batch)
        for some, on, states in by_route(model, batch, own, model.exits(budget) if routes is None else None):
            rows = question.rows[some]
            gone = None if seen is None else seen.of(some)
            part = batch if isinstance(some, slice) else batch.rows(torch.from_numpy(some).to(device))
            more = None if model.sparse is None else partial(_additions, model, part, on[0])
            found = ranks_of(model.catalogue, model.items.num_items, states, wanted[some], gone, more)
            ranks[rows] = found.cpu().numpy()
            for row, route in zip(rows.tolist(), on, strict=True):
                taken[row] = route
    return Ranking(np.where(targets > 0, ranks, MISSED), taken)


def ranks_of(
    score: Callable[[Tensor], Tensor],
    num_items: int,
    states: Tensor,
    targets: Tensor,
    seen: Seen | None,
    more: Callable[[slice], Additions] | None = None,
) -> Tensor:
    """Ranks int64 [B] of ``targets`` [B] for ``states`` [B, e], without the items ``seen`` of the B users, with what is added.

    ``score`` makes scores [B', N] of states [B', e], ``more`` what is added for some of the users: both are large, and made for few
    users at a time, within `RANKED_AT_ONCE` and `ADDED_AT_ONCE`.
    """
    step = max(1, RANKED_AT_ONCE // num_items)
    step = step if more is None else min(step, ADDED_AT_ONCE)
    parts = []
    for start in range(0, len(states), step):
        few = slice(start, start + step)
        scores = score(states[few])
        scores = scores if more is None else more(few).onto(scores)
        parts.append(_ranks(scores, targets[few], None if seen is None else seen.of(few)))
    return torch.cat(parts)


def _additions(model: Recommender, batch: Batch, route: Route, few: slice) -> Additions:
    """What a model adds to the scores of few of a batch's users."""
    some = torch.arange(batch.size, device=batch.items.device)[few]
    found = model.additions(batch.rows(some), route=route)
    assert found is not None
    return found


def _ranks(scores: Tensor, targets: Tensor, seen: Seen | None) -> Tensor:
    """Ranks from scores [B, N]; the target counts itself, and NaN counts against the model."""
    own = scores.gather(1, targets[:, None] - 1)
    if seen is None:
        return (~(scores < own)).sum(1)
    gone = torch.zeros_like(scores, dtype=torch.bool)
    for rows, ids in seen.pieces():
        gone[torch.from_numpy(rows).to(gone.device), torch.from_numpy(ids).to(gone.device) - 1] = True
    ranks = (~(scores < own) & ~gone).sum(1)
    was_seen = gone.gather(1, targets[:, None] - 1).squeeze(1)
    return torch.where(was_seen, MISSED, ranks)
