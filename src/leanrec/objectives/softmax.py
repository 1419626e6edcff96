"""Full softmax."""

from __future__ import annotations

import msgspec
from torch import Tensor

from leanrec.core.recommender import Objective, Recommender
from leanrec.core.types import Batch, Catalog
from leanrec.objectives import objectives


class Softmax(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cross-entropy over the full catalogue, in chunks that stay in the cache."""


@objectives.register("softmax", Softmax)
def build_softmax(config: Softmax, catalog: Catalog) -> Objective:
    """The full softmax; the item table brings its own exact loss."""

    def loss(model: Recommender, batch: Batch, states: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"nll": model.nll(batch, states, targets)}

    return loss
