"""Sampled softmax with the logQ correction."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from leanrec.core.ranges import Amount, Count
from leanrec.core.recommender import Objective, Recommender
from leanrec.core.types import Batch, Catalog
from leanrec.objectives import objectives


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

    def loss(model: Recommender, batch: Batch, states: Tensor, targets: Tensor) -> dict[str, Tensor]:
        uniform = torch.rand(config.negatives, dtype=torch.float64, device=states.device)
        drawn = torch.searchsorted(cumulative.to(states.device), uniform).clamp_max(len(share) - 1)
        q = log_q.to(states.device)
        positive, negative = model.score_some(batch, states, targets[:, None], drawn + 1)
        negative = (negative - q[drawn]).masked_fill(drawn + 1 == targets[:, None], -torch.inf)  # accidental hits
        return {"nll": (torch.logsumexp(torch.cat([positive, negative], 1), 1) - positive.squeeze(1)).mean()}

    return loss
