"""The self-critical reward of patterns that are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from leanrec.core.recommender import Recommender
from leanrec.core.types import PAD, Batch
from leanrec.techniques.skiprec import losses
from leanrec.techniques.skiprec.choice import pattern_choice
from leanrec.techniques.skiprec.losses import REWARDED_TOP
from leanrec.techniques.skiprec.policy import route_of
from toys import random_batch, wanting
from unit.techniques.skiprec.skiprecs import (
    BLOCKS,
    ITEMS,
    LONGEST,
    make,
    people,
    policy_loss,
    some_patterns,
)


def two_blocks(**fields: Any) -> tuple[Recommender, Batch, Tensor]:
    """A model of two blocks, users, and the policy's features of them."""
    model = make(shape={"layers": 2}, training="rl", patterns=4, **fields)
    batch = random_batch(ITEMS, [3, 5, LONGEST, 2])
    return model, batch, pattern_choice(model).router.features(model.items, batch).detach()


def hits(patch: pytest.MonkeyPatch, rule: Callable[[Tensor], Tensor]) -> None:
    """Let the next item be found where the pattern [B, L] obeys a rule."""

    def pretended(model: Recommender, batch: Batch, top: int, skip: Tensor) -> tuple[Tensor, Tensor]:
        assert top == REWARDED_TOP == 5
        wanted = torch.ones(batch.size, dtype=torch.bool)
        return wanted, rule(~skip)

    patch.setattr(losses, "newest_hits", pretended)


def log_p(odds: Tensor, pattern: Tensor) -> Tensor:
    kept = odds.double().sigmoid()
    return torch.where(pattern, kept, 1 - kept).log().sum(1)


def critical_step(model: Recommender, batch: Batch, features: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """How likely the drawn patterns are before and after a step down the self-critical term."""
    before = pattern_choice(model).router.odds(features)
    policy_loss(model).critical(model, batch, before, drawn.float()).backward()
    with torch.no_grad():
        for parameter in pattern_choice(model).router.parameters():
            if parameter.grad is not None:
                parameter -= 0.02 * parameter.grad
    return log_p(before.detach(), drawn), log_p(pattern_choice(model).router.odds(features).detach(), drawn)


@pytest.mark.parametrize("found_by_drawn", [True, False])
def test_a_drawn_pattern_that_hits_where_the_usual_one_misses_becomes_likelier(
    found_by_drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch, features = two_blocks()
    drawn = ~(pattern_choice(model).router.odds(features).detach() > 0)
    drawn[:, 1] = ~drawn[:, 1]  # differs from the usual pattern in the first block
    hits(monkeypatch, lambda kept: (kept == drawn).all(1) == found_by_drawn)
    before, after = critical_step(model, batch, features, drawn)
    assert (after > before).all() if found_by_drawn else (after < before).all()
    assert (after - before).abs().min() > 1e-4


@pytest.mark.parametrize("fewer", [True, False])
def test_of_two_patterns_that_hit_the_cheaper_one_becomes_likelier(
    fewer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch, features = two_blocks()
    with torch.no_grad():  # the usual pattern keeps both blocks, or none
        pattern_choice(model).router.reader.out.bias[0::2] = 5.0 if fewer else -5.0
    drawn = torch.tensor([[True, False]]).repeat(4, 1)
    assert (pattern_choice(model).router.odds(features) > 0).unique().tolist() == [fewer]
    hits(monkeypatch, lambda kept: torch.ones(4, dtype=torch.bool))
    before, after = critical_step(model, batch, features, drawn)
    assert (after > before).all() if fewer else (after < before).all()


@pytest.mark.parametrize("hit", [True, False])
def test_equal_rewards_teach_nothing(hit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, features = two_blocks()
    odds = pattern_choice(model).router.odds(features)
    hits(monkeypatch, lambda kept: torch.full((4,), hit))
    drawn = odds > 0 if hit else torch.rand(4, 2) < 0.5
    loss = policy_loss(model).critical(model, batch, odds, drawn.float())
    loss.backward()
    assert not loss.detach()
    assert all(p.grad is None or not p.grad.any() for p in pattern_choice(model).router.parameters())


def test_rewards_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make(training="rl", miss=0.7), random_batch(ITEMS, [3, 5, 2, 4, 6])
    bits = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 0, 0]]).float()
    hits(monkeypatch, lambda kept: torch.tensor([True, True, True, True, False]))
    wanted, reward = policy_loss(model).reward(model, batch, bits)
    assert wanted.all()
    assert reward.tolist() == pytest.approx([1.0, 1 - 1 / 16, 1 - 9 / 16, 0.0, -0.7])


def test_a_reward_asks_for_the_top_5_of_the_pattern_that_is_run() -> None:
    model, batch, bits = make(training="rl"), people(120), some_patterns(120)
    batch = wanting(batch, torch.randint(1, ITEMS + 1, (120,)))
    _, reward = policy_loss(model).reward(model, batch, bits.float())
    ranks = []
    for user, pattern in enumerate(bits.tolist()):
        alone, target = batch.rows(torch.tensor([user])), int(batch.targets[user].sum())  # type: ignore[index]
        scores = model.score(alone, route_of(pattern))[0].detach()
        rivals = {*range(1, ITEMS + 1)} - {*batch.items[user].tolist(), target}
        ranks.append(1 + sum(bool(scores[rival - 1] >= scores[target - 1]) for rival in rivals))
    expected = [
        1 - (sum(pattern) / BLOCKS) ** 2 if rank <= 5 else -1.0
        for rank, pattern in zip(ranks, bits.tolist(), strict=True)
    ]
    assert {5, 6} <= set(ranks)
    assert reward.tolist() == pytest.approx(expected)


def test_the_self_critical_term_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make(training="rl", reward=0.3, miss=0.5), people(12)
    patterns: list[np.ndarray] = []

    def found(kept: np.ndarray) -> np.ndarray:
        return (kept * np.arange(1, BLOCKS + 1)).sum(1) % 3 > 0

    def noted(kept: Tensor) -> Tensor:
        patterns.append(kept.numpy())
        return torch.from_numpy(found(kept.numpy()))

    hits(monkeypatch, noted)
    term = model.loss(batch)["reward"].item()
    odds = (
        pattern_choice(model)
        .router.odds(pattern_choice(model).router.features(model.items, batch))
        .detach()
        .double()
        .numpy()
    )
    drawn, usual = patterns
    np.testing.assert_array_equal(usual, odds > 0)
    assert (drawn != usual).any()
    rewards = [np.where(found(kept), 1 - kept.mean(1) ** 2, -0.5) for kept in (drawn, usual)]
    p = 1 / (1 + np.exp(-odds))
    likely = np.log(np.where(drawn, p, 1 - p)).sum(1)
    assert term == pytest.approx(-0.3 * (likely * (rewards[0] - rewards[1])).mean(), rel=1e-4)
    assert abs(term) > 1e-3


def test_users_without_a_target_at_the_newest_step_get_no_reward() -> None:
    model, batch = make(training="rl"), people(24)
    targets = torch.randint(1, ITEMS + 1, (24,))
    targets[::3] = PAD
    batch, drawn = wanting(batch, targets), some_patterns(24).float()
    rows = (targets > 0).nonzero().squeeze(1)
    odds = pattern_choice(model).router.odds(pattern_choice(model).router.features(model.items, batch)).detach()
    term = policy_loss(model).critical(model, batch, odds, drawn)
    assert term != 0
    torch.testing.assert_close(term, policy_loss(model).critical(model, batch.rows(rows), odds[rows], drawn[rows]))
    nobody = wanting(batch, torch.zeros(24, dtype=torch.long))
    assert policy_loss(model).critical(model, nobody, odds, drawn) == 0


def test_rewards_are_found_without_dropout_and_training_goes_on() -> None:
    model, batch = make(shape={"dropout": 0.5}, training="rl").train(), people(40)
    bits = some_patterns(40).float()
    first, second = (policy_loss(model).reward(model, batch, bits)[1] for _ in range(2))
    assert torch.equal(first, second)
    assert all(module.training for module in model.modules())
