"""Fit the few numbers that weigh a table of followers to a network as it is, on validation users."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from leanrec.core.recommender import HeldOut, Recommender

if TYPE_CHECKING:
    from leanrec.techniques.memory.table import FollowerTable

_STEPS, _RATE = 60, 0.1
_SCORES = 2**25
"""Scores of the catalogue in a step; where there are more users than that bears, evenly spread ones of them are taken."""


class _Asked(NamedTuple):
    """Validation users: the network's states [U, e], windows int64 [U, W], and the items wanted, int64 [U]."""

    states: Tensor
    read: Tensor
    wanted: Tensor


@torch.no_grad()
def fit_weights(model: Recommender, table: FollowerTable, held_out: HeldOut, trained: bool) -> None:
    """Lower the full softmax loss of the validation users' next items by the weights of ``table`` alone.

    A ``trained`` network may be surer of itself than it is right, and leaves the table no room then. So its scores are weighed,
    too, and in the end the gain is divided by their weight, which changes no order. Two starts are tried then: the weights as they
    are, and neutral ones.
    """
    model.eval()
    asked = _asked(model, table, held_out)
    starts = [[weight.clone() for weight in table.parameters()]]
    if trained:
        starts.append(table.neutral())
    found = [_descended(model, table, start, trained, asked, held_out) for start in starts]
    _, best = min(found, key=lambda end: end[0])
    for weight, value in zip(table.parameters(), best, strict=True):
        weight.copy_(value)


def _asked(model: Recommender, table: FollowerTable, held_out: HeldOut) -> _Asked:
    parts = []
    for batch in held_out.batches():
        batch = batch.to(table.weights.device)
        parts.append((model.represent(batch).float(), table.windows(batch), batch.scored()[1]))
    step = -(-held_out.users * model.items.num_items // _SCORES)
    return _Asked(*(torch.cat(column)[::step] for column in zip(*parts, strict=True)))


def _descended(
    model: Recommender,
    table: FollowerTable,
    start: list[Tensor],
    trained: bool,
    asked: _Asked,
    held_out: HeldOut,
) -> tuple[float, list[Tensor]]:
    """The lowest loss found from a start, and the weights there."""
    for weight, value in zip(table.parameters(), start, strict=True):
        weight.copy_(value)
    sure = torch.zeros((), device=table.weights.device, requires_grad=trained)  # logarithm of the network's weight
    weights = [*table.parameters(), *[sure] * trained]
    optimizer = torch.optim.Adam(weights, _RATE)
    best, kept = float("inf"), start
    for done in range(_STEPS):
        with torch.enable_grad():
            loss = model.items.nll_with(asked.states * sure.exp(), asked.wanted, table.of(asked.read))
        if float(loss.detach()) < best:
            best, kept = float(loss.detach()), [weight.clone() for weight in table.parameters()]
            table.surer(kept, -sure)
        optimizer.zero_grad()
        grads = torch.autograd.grad(loss, weights)
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = grad
        optimizer.step()
        held_out.report("weights of the memory", done + 1, _STEPS)
    return best, kept
