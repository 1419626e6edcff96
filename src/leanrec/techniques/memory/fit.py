"""Fit the few numbers that weigh a table of followers to a network as it is, by the lists that validation users get.

By lists and not by likelihood: a likelihood is ruled by the users whose next item the table does not know, and takes the table back
until it hardly counts. Measured in `docs/studies/memory.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.types import PAD, Batch

if TYPE_CHECKING:
    from leanrec.techniques.memory.table import FollowerTable

_LISTED = 10
"""Length of the lists whose NDCG is compared."""
_ROUNDS = 2
"""How often each weight is looked at in turn."""
_STEPS = (-2.0, -1.0, -0.4, 0.4, 1.0, 2.0)
"""What is added to one of them; all are logarithms."""
_USERS = 2**12
"""Users that are compared, at most, evenly spread."""


class Lists(NamedTuple):
    """What decides the first places of U users' lists, whatever the table weighs.

    Attributes:
        read: int64 [U, W], windows.
        wanted: int64 [U], the next items.
        named: [U, J], the network's scores of the items that the table names, in the order of `Evidence.additions`.
        rivals: [U, 10], its scores of the best that the table does not name.
        unnamed: [U], its score of the next item where the table does not name it, else less than all.
    """

    read: Tensor
    wanted: Tensor
    named: Tensor
    rivals: Tensor
    unnamed: Tensor


@torch.no_grad()
def fit_weights(model: Recommender, table: FollowerTable, held_out: HeldOut) -> None:
    """Raise the mean NDCG@10 of the validation users by the weights of ``table`` alone.

    Gain, scale, how much less an older item counts, and how much an item counts itself are moved one at a time, from the weights as
    they are and from neutral ones. That is few numbers for many users.
    """
    model.eval()
    lists = lists_of(model, table, held_out)
    found, starts = [], [[weight.clone() for weight in table.parameters()], table.neutral()]
    if all(map(torch.equal, *starts)):
        starts.pop()
    for nth, start in enumerate(starts):
        _set(table, start)
        best = ndcg_of_lists(table, lists)
        for done in range(_ROUNDS):
            best = _moved(table, lists, best)
            held_out.report("weights of the memory", nth * _ROUNDS + done + 1, len(starts) * _ROUNDS)
        found.append((best, [weight.clone() for weight in table.parameters()]))
    _set(table, max(found, key=lambda end: end[0])[1])


def _moved(table: FollowerTable, lists: Lists, best: float) -> float:
    """Move each weight to the best of a few places, and tell the NDCG there."""
    older = torch.arange(1, table.window + 1, device=table.weights.device).log()
    moves = ((table.gate[0], 1.0), (table.weights, 1.0), (table.weights, -older), (table.own, 1.0))
    for weight, along in moves:
        start, kept = weight.clone(), weight.clone()
        for step in _STEPS:
            weight.copy_(start + step * along)
            if (now := ndcg_of_lists(table, lists)) > best:
                best, kept = now, weight.clone()
        weight.copy_(kept)
    return best


def _set(table: FollowerTable, weights: list[Tensor]) -> None:
    for weight, value in zip(table.parameters(), weights, strict=True):
        weight.copy_(value)


def ndcg_of_lists(table: FollowerTable, lists: Lists) -> float:
    """Mean NDCG@10 of all users, with the weights as they are."""
    more = table.of(lists.read).additions()
    sums, is_wanted = lists.named + more.values, more.ids == lists.wanted[:, None]
    own = torch.where(is_wanted, sums, -torch.inf).amax(1).maximum(lists.unnamed)[:, None]
    better = ((sums >= own) & ~is_wanted).sum(1) + (lists.rivals >= own).sum(1)
    # of what the table does not name, the next item is among its own rivals
    rank = better + is_wanted.any(1)
    listed = (rank <= _LISTED) & (own[:, 0] > -torch.inf)
    return float((1 / (1 + rank[listed]).log2()).sum() / len(rank))


def lists_of(model: Recommender, table: FollowerTable, held_out: HeldOut) -> Lists:
    """Ask the network once about the validation users, or evenly spread ones of them."""
    parts, step = [], -(-held_out.users // _USERS)
    for batch in held_out.batches():
        some = torch.arange(0, batch.size, step)
        parts.append(_lists_of_batch(model, table, batch.rows(some).to(table.weights.device), held_out.exclude_seen))
    return Lists(*map(torch.cat, zip(*parts, strict=True)))


def _lists_of_batch(model: Recommender, table: FollowerTable, batch: Batch, exclude_seen: bool) -> Lists:
    scores, wanted, read = model.items.score(model.represent(batch)).float(), batch.scored()[1], table.windows(batch)
    ids = table.of(read).additions().ids
    if exclude_seen:
        _leave_out(scores, batch.items.clamp_min(PAD))
    named = scores.gather(1, (ids - 1).clamp_min(0)).masked_fill(ids == PAD, -torch.inf)
    _leave_out(scores, ids)
    unnamed = scores.gather(1, wanted[:, None] - 1)[:, 0]
    return Lists(read, wanted, named, scores.topk(min(_LISTED, scores.shape[1]), 1)[0], unnamed)


def _leave_out(scores: Tensor, ids: Tensor) -> None:
    """Take items int64 [B, J] out of scores [B, N] in place; 0 is none."""
    rows, _ = torch.nonzero(ids, as_tuple=True)
    scores[rows, ids[ids != PAD] - 1] = -torch.inf
