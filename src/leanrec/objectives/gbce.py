"""Generalised binary cross-entropy."""

from __future__ import annotations

from typing import Annotated

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.ranges import Count
from leanrec.core.recommender import Objective, Recommender
from leanrec.core.types import Batch, Catalog
from leanrec.objectives import objectives


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

    def loss(model: Recommender, batch: Batch, states: Tensor, targets: Tensor) -> dict[str, Tensor]:
        shift = torch.randint(1, max(2, n), (len(targets), config.negatives), device=states.device)
        drawn = (targets[:, None] - 1 + shift) % n + 1  # uniform over all items but the target
        positive, negative = model.score_some(batch, states, targets[:, None], drawn)
        return {"bce": (-beta * F.logsigmoid(positive).sum(1) + F.softplus(negative).sum(1)).mean()}

    return loss
