"""Fit the few numbers that weigh a table of followers to a network as it is, on validation users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from leanrec.core.recommender import HeldOut, Recommender

if TYPE_CHECKING:
    from leanrec.techniques.memory.table import FollowerTable

_STEPS, _RATE = 60, 0.1
_SCORES = 2**25
"""Scores of the catalogue in a step; where there are more users than that bears, evenly spread ones of them are taken."""


@torch.no_grad()
def fit_weights(model: Recommender, table: FollowerTable, held_out: HeldOut) -> None:
    """Lower the full softmax loss of the validation users' next items by the weights of ``table`` alone; the best step is kept."""
    model.eval()
    device = table.weights.device
    states, read, wanted = [], [], []
    for batch in held_out.batches():
        batch = batch.to(device)
        states.append(model.represent(batch).float())
        read.append(table.windows(batch))
        wanted.append(batch.scored()[1])
    step = -(-held_out.users * model.items.num_items // _SCORES)
    newest, windows, targets = (torch.cat(parts)[::step] for parts in (states, read, wanted))
    _descend(model, table, newest, windows, targets, held_out)


def _descend(
    model: Recommender, table: FollowerTable, states: Tensor, read: Tensor, wanted: Tensor, held_out: HeldOut
) -> None:
    weights = list(table.parameters())
    optimizer = torch.optim.Adam(weights, _RATE)
    best, kept = float("inf"), [weight.clone() for weight in weights]
    for done in range(_STEPS):
        with torch.enable_grad():
            loss = model.items.nll_with(states, wanted, table.of(read))
        if float(loss.detach()) < best:
            best, kept = float(loss.detach()), [weight.clone() for weight in weights]
        optimizer.zero_grad()
        grads = torch.autograd.grad(loss, weights)
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = grad
        optimizer.step()
        held_out.report("weights of the memory", done + 1, _STEPS)
    for weight, value in zip(weights, kept, strict=True):
        weight.copy_(value)
