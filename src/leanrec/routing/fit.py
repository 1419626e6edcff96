"""Fit a router on what each route really gains each user.

For every validation user the log-likelihood and the NDCG@10 of its next item are measured on every route. The router regresses each
user's advantage of each route, the mean of its losses less the route's: the conditional expectation of what a route gains is
what the budget dial weighs against its cost.

Log-likelihoods tell routes apart for every user, NDCG only where an item is near the top, but it is what is wanted. So what differs
between users is learned from the former and changed into NDCG at the rate at which the two go together; what is the same for
all users, the mean of a route, is taken from NDCG itself:

    score_k(u) = mean NDCG_k + rate * (advantage_k(u) - mean advantage_k)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.types import FULL, PAD, Batch, Route
from leanrec.routing.router import Router

EPOCHS, PATIENCE, BATCH, LEARNING_RATE, DECAY = 200, 20, 128, 1e-3, 1e-2
_CUTOFF = 10
USERS_AT_ONCE = 256
"""Users whose scores of the whole catalogue are held at once."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is known of U validation users.

    Attributes:
        features: [U, F], what the router reads.
        losses: float [U, K], negative log-likelihood of the next item on every route.
        gains: float [U, K], its NDCG@10 on every route, other items of the history left out.
    """

    features: Tensor
    losses: Tensor
    gains: Tensor


@torch.no_grad()
def read_sample(
    model: Recommender, read: Callable[[Batch], Tensor], held_out: HeldOut, routes: Sequence[Route]
) -> Sample:
    """Run each of these routes for every validation user.

    Args:
        model: The recommender.
        read: What a router reads of a batch, [B, F].
        held_out: Validation users.
        routes: K.
    """
    model.eval()
    device = next(model.parameters()).device
    features, results = [], []
    for held in held_out.batches():
        batch = held.to(device)
        targets = batch.scored()[1]
        columns = [_results(model, batch, route, targets) for route in routes]
        results.append(torch.stack(columns, 2))
        features.append(read(batch))
        held_out.report("validation users on every route", sum(map(len, features)), held_out.users)
    losses, gains = torch.cat(results, 1)
    return Sample(torch.cat(features), losses, gains)


@torch.no_grad()
def read_features(model: Recommender, router: Router, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """What the router reads of all histories, [U, F], and their lengths int64 [U]."""
    device = next(model.parameters()).device
    read = [(router.features(model.items, batch.to(device)), batch.lengths.to(device)) for batch in batches]
    features, lengths = zip(*read, strict=True)
    return torch.cat(features), torch.cat(lengths)


def fit_router(router: Router, sample: Sample, seed: int = 0) -> None:
    """Regress the routes' advantages, a fifth of the users decides when to stop; then change them into NDCG.

    Args:
        router: Its parameters are trained in place, everything else is left alone.
        sample: Validation users.
        seed: Of order, dropout and the fifth.
    """
    wanted = _centred(-sample.losses)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        router.standardise(sample.features)
        order = torch.randperm(len(wanted))
        _train(router, sample.features, wanted, learn=order[len(order) // 5 :], check=order[: len(order) // 5])
    gains = _centred(sample.gains)
    rate = ((wanted * gains).sum() / wanted.square().sum().clamp_min(1e-12)).clamp_min(0)
    router.rescale(rate, gains.mean(0) - rate * _advantage(router, sample.features).mean(0))


def _train(router: Router, features: Tensor, wanted: Tensor, learn: Tensor, check: Tensor) -> None:
    """Train on the users ``learn`` and keep the weights that fit the users ``check`` best."""
    optimizer = torch.optim.AdamW(router.parameters(), LEARNING_RATE, weight_decay=DECAY)
    best, stale, kept = float("inf"), 0, copy.deepcopy(router.state_dict())
    for _ in range(EPOCHS):
        router.train()
        for rows in learn[torch.randperm(len(learn))].split(BATCH):
            loss = F.mse_loss(_centred(router.score(features[rows])), wanted[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        router.eval()
        error = float(F.mse_loss(_advantage(router, features[check]), wanted[check]))
        stale += 1
        if error < best:
            best, stale, kept = error, 0, copy.deepcopy(router.state_dict())
        elif stale >= PATIENCE:
            break
    router.load_state_dict(kept)


@torch.no_grad()
def _advantage(router: Router, features: Tensor) -> Tensor:
    """Scores [B, K] less each user's mean."""
    return _centred(router.score(features))


def _centred(scores: Tensor) -> Tensor:
    return scores - scores.mean(1, keepdim=True)


@torch.no_grad()
def newest_hits(
    model: Recommender, batch: Batch, top: int, route: Route = FULL, skip: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Whose newest step has a target, and for whom a sub-model ranks it in its best ``top`` among items not bought before.

    Args:
        model: Run without dropout; left in the mode it is in.
        batch: Histories with targets.
        top: Length of the list.
        route: One sub-model for everyone.
        skip: Blocks that each user skips besides, bool [B, L].

    Returns:
        bool [B], twice.
    """
    if batch.targets is None:
        raise ValueError("this batch has no targets")
    targets = batch.targets.gather(1, batch.last[:, None])
    trained = model.training
    model.eval()
    states = model.backbone.encode(batch, route, last_only=True, skip=skip).states
    model.train(trained)
    users, steps = batch.items.shape
    newest = torch.arange(users, device=states.device) * steps + batch.last
    scores = F.pad(model.score_states(batch, states, newest).float(), (1, 0), value=-torch.inf)
    own = scores.gather(1, targets)
    scores = scores.scatter(1, batch.items.clamp_min(PAD), -torch.inf).scatter(1, targets, own)
    return targets.squeeze(1) != PAD, (scores >= own).sum(1) <= top


def _results(model: Recommender, batch: Batch, route: Route, targets: Tensor) -> Tensor:
    """Negative log-likelihood and NDCG@10 of targets [B] over the whole catalogue on a route, [2, B]."""
    parts, more, states = [], model.additions(batch, route=route), model.represent(batch, route)
    for start in range(0, len(states), USERS_AT_ONCE):
        few = slice(start, start + USERS_AT_ONCE)
        wanted, history, scores = targets[few], batch.items[few], model.catalogue(states[few]).float()
        scores = scores if more is None else more.rows(few).onto(scores)
        nll = F.cross_entropy(scores, wanted - 1, reduction="none")
        own = scores.gather(1, wanted[:, None] - 1)
        hidden = F.pad(scores, (1, 0)).scatter(1, history.clamp_min(PAD), -torch.inf)[:, 1:]
        rank = 1 + (hidden >= own).sum(1) - (hidden.gather(1, wanted[:, None] - 1) >= own).squeeze(1).long()
        parts.append(torch.stack([nll, torch.where(rank <= _CUTOFF, 1 / torch.log2(1.0 + rank), 0.0)]))
    return torch.cat(parts, 1)
