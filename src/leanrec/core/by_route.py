"""Run every user of a batch on its own route."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from leanrec.core.grouping import WORTH_A_GROUP, grouped
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch, Route


def by_route(
    model: Recommender, batch: Batch, routes: Sequence[Route], worth: int = WORTH_A_GROUP
) -> Iterator[tuple[np.ndarray | slice, Sequence[Route], Tensor]]:
    """Run the users of a batch on their routes, those together who should be; see `grouped`.

    Args:
        model: The recommender.
        batch: Histories of B users.
        routes: The B users' routes.
        worth: As in `grouped`.

    Yields:
        Some of the users by their places in the batch, their routes, and their states [B', e] of the newest step.
    """
    for group in grouped(routes, len(model.backbone.blocks), worth):
        device = batch.items.device
        part = batch if group.rows is None else batch.rows(torch.as_tensor(group.rows, device=device))
        skip = None if group.skip is None else torch.as_tensor(group.skip, device=device)
        yield slice(None) if group.rows is None else group.rows, group.routes, model.represent(part, group.route, skip)
