"""The promise "loses less than m with 95 % confidence", checked where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from leanrec.evaluate.losses import ALPHA, in_sequence, paired_loss, resampled
from leanrec.evaluate.metrics import gains

MAX_LOSS = 0.05


def ranks(users: int, hit: float, rng: np.random.Generator) -> np.ndarray:
    """Ranks of a model whose target is among the first ten with a probability, anywhere there."""
    return np.where(rng.random(users) < hit, rng.integers(1, 11, users), 50)


def pair(users: int, loss: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Gains of a model and of the full one, alike for most users; the first loses a share of the mean in truth."""
    full = ranks(users, 0.5, rng)
    moved = rng.random(users) < 0.3
    ours = np.where(moved, ranks(users, 0.5, rng), full)
    lost = (rng.random(users) < loss) & (ours <= 10)
    return gains("ndcg@10", np.where(lost, 50, ours)), gains("ndcg@10", full)


def chance(trials: int) -> float:
    """How far a share that is 5 % in truth may be off in so many trials, 99 of 100 times."""
    return 2.33 * (ALPHA * (1 - ALPHA) / trials) ** 0.5


def test_the_simulated_loss_is_the_stated_one() -> None:
    ours, full = pair(400_000, MAX_LOSS, np.random.default_rng(0))
    assert 1 - ours.mean() / full.mean() == pytest.approx(MAX_LOSS, abs=0.004)


def test_the_upper_bound_covers_the_true_loss_in_95_percent() -> None:
    rng, trials = np.random.default_rng(6), 400
    bounds = [paired_loss(*pair(500, MAX_LOSS, rng), MAX_LOSS, samples=400, seed=t).upper for t in range(trials)]
    assert np.mean(np.array(bounds) >= MAX_LOSS) >= 0.95 - chance(trials)


@pytest.mark.parametrize("candidates", [1, 3])
def test_a_choice_among_models_that_lose_too_much_is_false_in_at_most_5_percent(candidates: int) -> None:
    """The worst case: every candidate loses exactly what is not allowed. Most users are shared, as they are in a search."""
    rng, trials, false = np.random.default_rng(2), 300, 0
    for trial in range(trials):
        full = ranks(500, 0.5, rng)
        p = []
        for _ in range(candidates):
            ours = np.where(rng.random(500) < 0.3, ranks(500, 0.5, rng), full)
            ours = np.where((rng.random(500) < MAX_LOSS) & (ours <= 10), 50, ours)
            p.append(paired_loss(gains("ndcg@10", ours), gains("ndcg@10", full), MAX_LOSS, 400, trial).p)
        false += any(in_sequence(p))
    assert false / trials <= ALPHA + chance(trials)


def test_a_model_that_loses_nothing_is_found_given_enough_users() -> None:
    ours, full = pair(20_000, 0.0, np.random.default_rng(3))
    assert paired_loss(ours, full, MAX_LOSS).p < 0.01


def test_it_is_the_bootstrap_over_users() -> None:
    ours, full = pair(300, 0.1, np.random.default_rng(4))
    rng = np.random.default_rng(5)
    rows = rng.integers(300, size=(20_000, 300))
    plain = 1 - ours[rows].mean(1) / full[rows].mean(1)
    for q in (0.025, 0.5, 0.95):
        assert np.quantile(resampled(ours, full, 20_000), q) == pytest.approx(np.quantile(plain, q), abs=0.004)


def test_the_same_model_loses_nothing() -> None:
    full = gains("ndcg@10", ranks(50, 0.5, np.random.default_rng(0)))
    loss = paired_loss(full, full, 0.01)
    assert (loss.mean, loss.low, loss.high, loss.upper) == (0.0, 0.0, 0.0, 0.0)
    assert 0 < loss.p < 0.001


def test_where_the_full_model_never_hits_nothing_is_promised() -> None:
    nothing = np.zeros(20)
    assert paired_loss(nothing, nothing, 0.01).p == 1.0


def test_a_sequence_ends_at_the_first_that_fails() -> None:
    assert in_sequence([]) == []
    assert in_sequence([0.05]) == [True]
    assert in_sequence([0.04, 0.03]) == [True, True]
    assert in_sequence([0.06, 0.001]) == [False, False]
    assert in_sequence([0.001, 0.2, 0.01]) == [True, False, False]
