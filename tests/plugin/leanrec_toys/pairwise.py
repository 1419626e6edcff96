"""An objective: the wanted item shall score above one that is drawn at random (BPR)."""

from __future__ import annotations

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.recommender import Objective, Recommender
from leanrec.core.types import Batch, Catalog
from leanrec.objectives import objectives


class Pairwise(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bayesian personalised ranking."""

    negatives: int = 4


@objectives.register("pairwise", Pairwise)
def build_pairwise(config: Pairwise, catalog: Catalog) -> Objective:
    def loss(model: Recommender, batch: Batch, states: Tensor, targets: Tensor) -> dict[str, Tensor]:
        drawn = torch.randint(1, len(catalog) + 1, (len(targets), config.negatives), device=states.device)
        lead = model.items.score(states, targets[:, None]) - model.items.score(states, drawn)
        return {"pairwise": -F.logsigmoid(lead).mean()}

    return loss
