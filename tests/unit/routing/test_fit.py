"""The router regresses what each route gains each user, and speaks of it in NDCG."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.types import FULL, Batch, Route
from leanrec.routing import fit
from leanrec.routing.fit import Sample, fit_router, read_features, read_sample
from leanrec.routing.router import HISTORY_NUMBERS, SharedRouter
from toys import random_batch, randomise, same

DIM, ROUTES, USERS = 2, 3, 400
FEATURES = 2 * DIM + HISTORY_NUMBERS
RATE, STATIC = 0.1, torch.tensor([0.0, 0.05, 0.02])
"""NDCG per unit of log-likelihood, and what routes gain all users alike beside it."""


def people(users: int, follows: bool, rate: float = RATE) -> Sample:
    """Whose loss on the last route is one lower where the first feature is above its mean of 5, if it ``follows``."""
    features = torch.randn(users, FEATURES) * 2 + 5
    losses = 7 + torch.randn(users, 1) + 0.5 * torch.randn(users, ROUTES)
    if follows:
        losses[:, -1] -= (features[:, 0] > 5).float()
    return Sample(features, losses, 1 - rate * losses + STATIC)


def centred(values: Tensor) -> Tensor:
    return values - values.mean(1, keepdim=True)


def fitted(sample: Sample, seed: int = 0) -> SharedRouter:
    torch.manual_seed(1)
    router = SharedRouter(DIM, ROUTES)
    fit_router(router, sample, seed)
    return router.eval()


def errors(learn: Sample, unseen: Sample) -> tuple[float, float]:
    """Squared errors of gains on unseen users: of the router, and of each route's mean gain."""
    scores = centred(fitted(learn).score(unseen.features).detach())
    constant = centred(learn.gains).mean(0).expand_as(scores)
    return float(F.mse_loss(scores, centred(unseen.gains))), float(F.mse_loss(constant, centred(unseen.gains)))


def test_it_learns_which_users_gain() -> None:
    learn, unseen = people(USERS, follows=True), people(USERS, follows=True)
    router, constant = errors(learn, unseen)
    noise = (0.5 * RATE) ** 2 * (ROUTES - 1) / ROUTES
    assert router < constant - 0.3 * (constant - noise)
    wins = unseen.features[:, 0] > 5
    scores = fitted(learn).score(unseen.features).detach()
    gain = scores[:, -1] - scores[:, 0]
    assert gain[wins].mean() - gain[~wins].mean() > 0.2 * RATE


def test_noise_leaves_it_no_worse_than_a_constant() -> None:
    router, constant = errors(people(USERS, follows=False), people(USERS, follows=False))
    assert router < 1.03 * constant


def test_what_a_route_gains_all_users_is_its_mean_ndcg() -> None:
    sample = people(100, follows=True)
    other = replace(sample, gains=sample.gains + torch.tensor([0.3, 0.0, -0.2]))
    for given in (sample, other):
        scores = centred(fitted(given).score(given.features).detach())
        torch.testing.assert_close(scores.mean(0), centred(given.gains).mean(0), atol=1e-6, rtol=1e-5)


def test_differences_between_users_are_changed_into_ndcg() -> None:
    sample, steeper = people(100, follows=True), people(0, follows=True)
    steeper = replace(sample, gains=1 - 3 * RATE * sample.losses)
    sample = replace(sample, gains=1 - RATE * sample.losses)
    slow, steep = (centred(fitted(given).score(given.features).detach()) for given in (sample, steeper))
    assert slow.std(0).min() > 1e-3
    torch.testing.assert_close(steep, 3 * slow, atol=1e-5, rtol=1e-4)


def test_where_likelihood_and_ndcg_part_ways_all_users_are_alike() -> None:
    sample = people(100, follows=True, rate=-RATE)
    scores = centred(fitted(sample).score(sample.features).detach())
    torch.testing.assert_close(scores, centred(sample.gains).mean(0).expand_as(scores), atol=1e-6, rtol=0)


def test_how_hard_a_user_is_does_not_matter() -> None:
    sample = people(100, follows=True)
    harder = replace(sample, losses=sample.losses + 4 * torch.randn(100, 1).round())
    first, second = fitted(sample).state_dict(), fitted(harder).state_dict()
    torch.testing.assert_close(first, second, atol=1e-2, rtol=1e-2)


def test_the_same_seed_gives_the_same_weights() -> None:
    sample = people(100, follows=True)
    first = fitted(sample).state_dict()
    assert same(fitted(sample).state_dict(), first)
    assert not same(fitted(sample, seed=1).state_dict(), first)


def test_other_random_draws_go_on_as_if_nothing_had_been_fitted() -> None:
    sample, router = people(50, follows=True), SharedRouter(DIM, ROUTES)
    before = torch.get_rng_state()
    fit_router(router, sample)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_stops_at_the_best_weights_on_the_users_it_did_not_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "LEARNING_RATE", 0.1)  # so that errors go up and down
    monkeypatch.setattr(fit, "PATIENCE", 3)
    monkeypatch.setattr(SharedRouter, "rescale", lambda self, factor, shift: None)
    mse, learned, found = F.mse_loss, [], []

    def noted(guess: Tensor, wanted: Tensor) -> Tensor:
        error = mse(guess, wanted)
        if guess.requires_grad:
            learned.extend(wanted.tolist())
        else:
            found.append((float(error), wanted))
        return error

    monkeypatch.setattr(fit.F, "mse_loss", noted)
    sample = people(100, follows=True)
    router = fitted(sample)
    errors, check = [error for error, _ in found], found[0][1]
    assert len(check) == 20 and not any(row in learned for row in check.tolist())
    assert 0 < errors.index(min(errors)) == len(errors) - 4
    wanted = centred(-sample.losses)
    rows = [int((wanted == row).all(1).nonzero()) for row in check]
    advantage = centred(router.score(sample.features).detach())
    assert float(mse(advantage[rows], check)) == pytest.approx(min(errors), rel=1e-4)


@pytest.mark.parametrize("users", [1, 2, 4, 5])
def test_a_handful_of_users_leaves_finite_weights(users: int) -> None:
    router = fitted(people(users, follows=True))
    assert all(value.isfinite().all() for value in router.state_dict().values())
    assert router.score(people(3, follows=True).features).isfinite().all()


class Two(Recommender):
    def all_routes(self) -> tuple[Route, ...]:
        return Route(width=4, layers=(0,)), FULL


def two() -> Two:
    model = Two(SASRec(SASRecConfig(width=8, layers=2, max_length=6), 30), lambda model, batch, states, targets: {})
    randomise(model, 0.5)
    return model


def test_every_route_is_run_for_every_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "USERS_AT_ONCE", 2)
    model, router, batches = two().train(), SharedRouter(8, 2), []
    for lengths in ([1, 2, 2], [5, 6, 6, 6, 4] * 12):
        batch = random_batch(30, lengths)
        newest = torch.arange(batch.items.shape[1]) == batch.last[:, None]
        assert batch.targets is not None
        batch.targets[1:, :] = torch.where(
            torch.rand(len(lengths) - 1, 1) < 0.4, batch.items[1:, :1], batch.targets[1:]
        )
        batches.append(replace(batch, targets=batch.targets * newest))
    held_out = HeldOut(lambda: batches, lambda: (), lambda steps, route: 1, lambda steps: 0)
    sample = read_sample(model, partial(router.features, model.items), held_out, model.all_routes())
    assert not model.training
    assert not any(values.requires_grad for values in (sample.features, sample.losses, sample.gains))
    users = [(batch, user) for batch in batches for user in range(batch.size)]
    assert len(sample.losses) == len(sample.gains) == len(users)
    ranks = {False: set(), True: set()}  # of items that were seen before, or not
    for row, (batch, user) in enumerate(users):
        history = batch.items[user, : int(batch.lengths[user])].tolist()
        target = int(batch.targets[user].sum())
        alone = Batch(torch.tensor([history]), batch.lengths[user : user + 1])
        torch.testing.assert_close(sample.features[row], router.features(model.items, alone)[0])
        for k, route in enumerate(model.all_routes()):
            scores = model.score(alone, route)[0].detach()
            own = float(scores[target - 1])
            rank = 1 + sum(float(scores[item - 1]) >= own for item in {*range(1, 31)} - {*history, target})
            ndcg = 1 / math.log2(1 + rank) if rank <= 10 else 0.0
            torch.testing.assert_close(sample.losses[row, k], -scores.log_softmax(0)[target - 1], atol=1e-5, rtol=1e-5)
            assert float(sample.gains[row, k]) == pytest.approx(ndcg, abs=1e-6)
            ranks[target in history].add(rank)
    assert all({1, 10, 11} <= found for found in ranks.values())


def test_histories_are_read_without_targets() -> None:
    model, router = two().eval(), SharedRouter(8, 2)
    batches = [replace(random_batch(30, lengths), targets=None) for lengths in ([1, 2, 2], [5, 6])]
    features, lengths = read_features(model, router, batches)
    assert lengths.tolist() == [1, 2, 2, 5, 6] and not features.requires_grad
    assert torch.equal(features, torch.cat([router.features(model.items, batch) for batch in batches]))
