"""Full softmax plus a contrastive term over the users of a batch.

    L = L_softmax + weight L_con
    L_con = - mean_i mean_{p in P(i)} log softmax_{a != i}(cos(h_i, h_a) / temperature)[p]

h_i is the state of user i's newest step with a target, and P(i) are the other users of the batch with the same target there. The
mean is over the users who have any. This pulls users who want the same item together and pushes all others apart, so that states
and item vectors do not collapse into a narrow cone: the supervised half of DuoRec (Qiu et al., WSDM 2022, arXiv 2110.05730), as the
loss of Khosla et al. (NeurIPS 2020, arXiv 2004.11362, eq. 2). Deviations from DuoRec: positives come from the batch and are not
sampled from the log, so that a step needs no second pass through the encoder; states are compared by cosine.
"""

from __future__ import annotations

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.ranges import Amount, Positive
from leanrec.core.recommender import Objective, Recommender
from leanrec.core.types import Batch, Catalog
from leanrec.objectives import objectives
from leanrec.objectives.softmax import Softmax, build_softmax

ALONE = torch.finfo(torch.float32).min
"""Score of a user against itself, which takes no part; finite, so that gradients are where a user is the only one."""


class Contrastive(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Full softmax, plus a contrastive term between users who want the same item (WSDM 2022).

    Attributes:
        weight: Weight of the contrastive term.
        temperature: Similarities are divided by it; the smaller, the more the nearest users count.
    """

    weight: Amount = 0.1
    temperature: Positive = 0.1


@objectives.register("contrastive", Contrastive)
def build_contrastive(config: Contrastive, catalog: Catalog) -> Objective:
    """The softmax's terms and the contrastive one."""
    base = build_softmax(Softmax(), catalog)

    def loss(model: Recommender, batch: Batch, states: Tensor, targets: Tensor) -> dict[str, Tensor]:
        newest = newest_scored(batch)
        term = supervised_contrast(states[newest], targets[newest], config.temperature)
        return base(model, batch, states, targets) | {"contrastive": config.weight * term}

    return loss


def newest_scored(batch: Batch) -> Tensor:
    """Places in [M] of each user's newest step with a target, ascending; users without any have none."""
    users = batch.scored()[0] // batch.items.shape[1]
    return torch.cat([users[1:] != users[:-1], users.new_ones(len(users[:1]), dtype=torch.bool)]).nonzero().squeeze(1)


def supervised_contrast(states: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """L_con, a scalar, of states [B, e] with labels int64 [B]; 0 where no two labels are equal."""
    vectors = F.normalize(states.float(), dim=-1)
    own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    log_p = (vectors @ vectors.t() / temperature).masked_fill(own, ALONE).log_softmax(-1)
    positive = (labels[:, None] == labels) & ~own
    count = positive.sum(1)
    mean = log_p.masked_fill(~positive, 0.0).sum(1) / count.clamp_min(1)
    return -mean.sum() / (count > 0).sum().clamp_min(1)
