"""Training objectives for next-item prediction: full softmax, sampled softmax with logQ correction, gBCE.

Each is a frozen config that builds a callable from the item table, the scored states and their targets to named loss terms.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.backbone import ItemTable
from leanrec.core.ranges import Amount, Count
from leanrec.core.recommender import Objective
from leanrec.core.registry import Registry
from leanrec.core.types import Catalog

objectives: Registry[Objective] = Registry("objective", "leanrec.objectives", "leanrec.objectives")


class Softmax(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cross-entropy over the full catalogue, in chunks that stay in the cache."""


@objectives.register("softmax", Softmax)
def build_softmax(config: Softmax, catalog: Catalog) -> Objective:
    """The full softmax; the item table brings its own exact loss."""

    def loss(items: ItemTable, states: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"nll": items.nll(states, targets)}

    return loss


class SampledSoftmax(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cross-entropy over the target and shared sampled items, corrected by log Q (Bengio and Senecal 2008).

    Attributes:
        negatives: Items drawn for every batch, shared by its M scored steps.
        power: Draw proportionally to count ** power: 0 is uniform, 1 is popularity.
        correct: Subtract log(expected count) from every sampled logit. The target was not sampled and hits of it are
            dropped, so the sum of exponents is then an unbiased estimate of the full softmax's.
    """

    negatives: Count = 2048
    power: Amount = 0.5
    correct: bool = True


@objectives.register("sampled-softmax", SampledSoftmax)
def build_sampled_softmax(config: SampledSoftmax, catalog: Catalog) -> Objective:
    """Sampled softmax; draws come from torch's generator, so a seeded step repeats."""
    share = torch.tensor(catalog.counts, dtype=torch.float64).clamp_min(1).pow(config.power)
    share /= share.sum()
    cumulative = share.cumsum(0)
    log_q = (share * config.negatives).log().float() if config.correct else torch.zeros(len(share))

    def loss(items: ItemTable, states: Tensor, targets: Tensor) -> dict[str, Tensor]:
        uniform = torch.rand(config.negatives, dtype=torch.float64, device=states.device)
        drawn = torch.searchsorted(cumulative.to(states.device), uniform).clamp_max(len(share) - 1)
        q = log_q.to(states.device)
        negative = items.score(states, drawn + 1) - q[drawn]
        negative = negative.masked_fill(drawn + 1 == targets[:, None], -torch.inf)  # accidental hits
        positive = items.score(states, targets[:, None])
        return {"nll": (torch.logsumexp(torch.cat([positive, negative], 1), 1) - positive.squeeze(1)).mean()}

    return loss


class GBCE(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Generalised binary cross-entropy of gSASRec (Petrov and Macdonald 2023, eqs. 7-9).

    Attributes:
        negatives: Items drawn uniformly for every scored step.
        calibration: t in [0, 1]; 0 is plain BCE, 1 undoes the overconfidence of negative sampling.
    """

    negatives: Count = 256
    calibration: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.75


@objectives.register("gbce", GBCE)
def build_gbce(config: GBCE, catalog: Catalog) -> Objective:
    """gBCE with beta = a (t (1 - 1/a) + 1/a), a = negatives / (N - 1)."""
    n = len(catalog)
    alpha = min(1.0, config.negatives / max(1, n - 1))
    beta = alpha * (config.calibration * (1 - 1 / alpha) + 1 / alpha)

    def loss(items: ItemTable, states: Tensor, targets: Tensor) -> dict[str, Tensor]:
        shift = torch.randint(1, max(2, n), (len(targets), config.negatives), device=states.device)
        drawn = (targets[:, None] - 1 + shift) % n + 1  # uniform over all items but the target
        positive = items.score(states, targets[:, None])
        negative = items.score(states, drawn)
        return {"bce": (-beta * F.logsigmoid(positive).sum(1) + F.softplus(negative).sum(1)).mean()}

    return loss
