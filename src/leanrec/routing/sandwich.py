"""Nested weights: train the whole model and sub-models of it in every step, the whole model teaching the others.

In-place distillation with the sandwich rule (Yu et al., BigNAS, 2020), on real slices, for recommenders: soft targets are
compared among a few items, not the whole catalogue.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.backbone import ItemTable
from leanrec.core.recommender import Criterion, Recommender
from leanrec.core.types import Batch, Route

_LEFT_OUT = -1e4
"""Score of an item that takes no part."""


class SandwichLoss(Criterion):
    """Loss terms of the whole model and of other routes, drawn for every step; see `sandwich`.

    Args:
        distil: Weight of the whole model's soft targets for the others.
        candidates: Items over which these are compared.
    """

    def __init__(self, distil: float, candidates: int) -> None:
        super().__init__()
        self.distil, self.candidates = distil, candidates

    @abstractmethod
    def others(self, model: Recommender) -> list[Route]:
        """The sub-models of one step, without the whole model."""

    def terms(self, model: Recommender, batch: Batch) -> dict[str, Tensor]:
        return sandwich(model, model.backbone.examples(batch), self.others(model), self.distil, self.candidates)


def sandwich(
    model: Recommender, batch: Batch, others: Sequence[Route], distil: float, candidates: int
) -> dict[str, Tensor]:
    """Loss terms of the whole model and of other routes, each on its slice.

    The whole model's states are fixed as teachers; the item table that scores them learns from both sides.

    Args:
        model: The recommender.
        batch: Training examples.
        others: The sub-models of this step.
        distil: Weight of the whole model's soft targets for them.
        candidates: Items over which these are compared, drawn from the batch's targets.
    """
    states, targets = model.scored(batch)
    terms = model.objective(model, batch, states, targets)
    drawn = targets[torch.randperm(len(targets), device=targets.device)[:candidates]]
    teacher = among(model.items, states.detach(), targets, drawn)
    rest: dict[str, list[Tensor]] = {}
    for route in others:
        small, _ = model.scored(batch, route)
        for name, term in model.objective(model, batch, small, targets).items():
            rest.setdefault(f"{name} of routes", []).append(term)
        if distil:
            student = among(model.items, small, targets, drawn)
            distance = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
            rest.setdefault("distil", []).append(distil * distance)
    return terms | {name: torch.stack(parts).mean() for name, parts in rest.items()}


def among(items: ItemTable, states: Tensor, targets: Tensor, drawn: Tensor) -> Tensor:
    """Log-probabilities [M, 1 + C] of each state's target [M] among it and the drawn items [C]."""
    others = items.score(states, drawn).float().masked_fill(drawn == targets[:, None], _LEFT_OUT)
    return torch.cat([items.score(states, targets[:, None]).float(), others], 1).log_softmax(-1)
