"""What a cheaper model loses, with the certainty that a promise needs.

The loss is relative: 1 - mean(ours) / mean(full), of the same users' NDCG@10. Users are resampled in pairs. A promise "loses less
than m" is a test of the hypothesis "loses at least m": its p-value is the share of resamples that do. Where several promises are
tested, the cheapest is taken, which is a choice; testing them in an order fixed beforehand, up to the first that fails,
keeps the chance of any false promise below alpha with no correction of the single tests (fixed-sequence testing; see "Learn then
test", Angelopoulos et al., arXiv 2110.01052).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

_SAMPLES = 4000
ALPHA = 0.05
_LEAST = 1e-12


class PairedLoss(msgspec.Struct, frozen=True):
    """A relative loss.

    Attributes:
        mean: 1 - mean(ours) / mean(full); negative is a gain.
        low: Lower end of its 95 % bootstrap interval.
        high: Upper end.
        upper: One-sided 95 % bound: the loss is below it with 95 % confidence.
        p: Of the hypothesis that the loss is at least what was allowed.
    """

    mean: float
    low: float
    high: float
    upper: float
    p: float


def resampled(ours: np.ndarray, full: np.ndarray, samples: int = _SAMPLES, seed: int = 0) -> np.ndarray:
    """float [samples], relative losses of users drawn with replacement, in pairs.

    A gain depends on a user's rank only, so few pairs of gains differ: a resample is a multinomial draw over them, exact, and as
    cheap for a million users as for a thousand.

    Args:
        ours: float [U], gains of the cheaper model.
        full: float [U], gains of the full model for the same users.
    """
    pairs, counts = np.unique(np.stack([ours, full]), axis=1, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(ours), counts / len(ours), size=samples)
    means = drawn @ pairs.T / len(ours)
    return 1 - means[:, 0] / np.maximum(means[:, 1], _LEAST)


def paired_loss(
    ours: np.ndarray, full: np.ndarray, max_loss: float, samples: int = _SAMPLES, seed: int = 0
) -> PairedLoss:
    """The loss of a model against the full one, float [U] both, and how sure it is below ``max_loss``.

    The p-value counts the sample itself as one more resample, so it is never 0.
    """
    losses = resampled(ours, full, samples, seed)
    low, high, upper = np.quantile(losses, [0.025, 0.975, 1 - ALPHA])
    mean = 1 - ours.mean() / max(full.mean(), _LEAST)
    p = (1 + (losses >= max_loss).sum()) / (1 + samples)
    return PairedLoss(float(mean), float(low), float(high), float(upper), float(p))


def in_sequence(p: Sequence[float], alpha: float = ALPHA) -> list[bool]:
    """Which hypotheses are refused if they are tested in this order, up to the first that is not.

    The chance of any false refusal is at most ``alpha`` if the order does not come from what they are tested on.
    """
    return [bool(passed) for passed in np.cumprod([value <= alpha for value in p])]
