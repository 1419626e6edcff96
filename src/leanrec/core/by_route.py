"""Run every user of a batch on its own route."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from leanrec.core.backbone import Exits
from leanrec.core.grouping import WORTH_A_GROUP, grouped
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch, Route


def by_route(
    model: Recommender,
    batch: Batch,
    routes: Sequence[Route],
    exits: Exits | None = None,
    worth: int = WORTH_A_GROUP,
) -> Iterator[tuple[np.ndarray | slice, Sequence[Route], Tensor]]:
    """Run the users of a batch on their routes, those together who should be; see `grouped`.

    Args:
        model: The recommender.
        batch: Histories of B users.
        routes: The B users' routes.
        exits: Asked after each block who leaves (`Recommender.exits`); None if everyone runs the whole route.
        worth: As in `grouped`.

    Yields:
        Some of the users by their places in the batch, the routes they took, and their states [B', e] of the newest step.
    """
    backbone, device = model.backbone, batch.items.device
    for group in grouped(routes, len(backbone.blocks), worth):
        part = batch if group.rows is None else batch.rows(torch.as_tensor(group.rows, device=device))
        skip = None if group.skip is None else torch.as_tensor(group.skip)
        found = backbone.encode(backbone.query(part), group.route, last_only=True, skip=skip, exits=exits)
        taken = group.routes
        if exits is not None and found.skipped is not None:
            taken = [_cut(route, row) for route, row in zip(group.routes, found.skipped, strict=True)]
        yield slice(None) if group.rows is None else group.rows, taken, found.states


def _cut(route: Route, skipped: Tensor) -> Route:
    """The route without the blocks that were skipped, bool [L]."""
    every = tuple(range(len(skipped))) if route.layers is None else route.layers
    ran = tuple(i for i in every if not skipped[i])
    return route if ran == every else Route(route.emb, route.width, ran)


def routes_taken(model: Recommender, batch: Batch, budget: float | None = None) -> list[Route]:
    """The route of each of the B users. A model whose users leave between blocks must run to know it."""
    routes, exits = model.routes(batch, budget), model.exits(budget)
    if exits is not None:
        for rows, taken, _ in by_route(model, batch, routes, exits):
            for row, route in zip(np.arange(batch.size)[rows].tolist(), taken, strict=True):
                routes[row] = route
    return routes
