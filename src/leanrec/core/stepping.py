"""Sessions: a backbone's answer to one more event, from the memories of its blocks instead of the whole history.

A memory is a ring [B, R, w]: the row of step t lies at place t mod R. What it holds, and how a step reads it, its block says
(`Block.rings`, `Block.rows`, `Block.step`); here are the loops over the blocks of a route.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from leanrec.core.backbone import Backbone, Context, Steps
from leanrec.core.types import FULL, Batch, Route


def rings(backbone: Backbone, route: Route = FULL) -> tuple[int, ...] | None:
    """Rows of the memories of a route's blocks, in order; None where an event cannot be computed from memories."""
    if not backbone.causal:
        return None
    found = [block.rings(backbone.max_length) for block in backbone.chosen(route)]
    return None if None in found else tuple(rows for some in found for rows in some or ())


def slides(backbone: Backbone, route: Route = FULL) -> bool:
    """Whether memories stay exact when a history outgrows ``max_length``: no state depends on an event that far back."""
    steps: Steps = (0,)
    for block in reversed(backbone.chosen(route)):
        steps = block.needs(steps, 2 * backbone.max_length)
    ids = torch.zeros(1, 1, dtype=torch.int64)
    placed = backbone.positions(Context(ids[0] + 1, 1, backbone.width), (0,)) is not None
    return steps is not None and max(steps) < backbone.max_length and not placed


def remember(backbone: Backbone, batch: Batch, route: Route = FULL) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The newest states [B, e], and the rows [B, T, w] of every memory."""
    steps = batch.items.shape[1]
    ctx = Context(batch.lengths, steps, route.width or backbone.width, reach=steps)
    x = backbone.entered(batch.items, ctx, None, route.emb)
    rows: list[Tensor] = []
    for block in backbone.chosen(route):
        rows += block.rows(x, ctx)
        x = block(x, ctx, None, None)
    x = backbone.left(backbone.norm(ctx.restrict(x, None, (0,)), None), route.emb)
    return x.squeeze(1), tuple(rows)


def step(
    backbone: Backbone, ids: Tensor, at: Tensor, memories: Sequence[Tensor], route: Route = FULL
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The newest states [B, e] after one more event, and the new row [B, w] of every memory.

    Args:
        backbone: Whose blocks run.
        ids: int64 [B], the newest items.
        at: int64 [B], their steps.
        memories: [B, R, w] each, without the newest step; as `rings` says.
        route: The sub-model, which must be that of the memories.
    """
    ctx = Context(at + 1, 1, route.width or backbone.width, reach=1)
    x = backbone.entered(ids[:, None], ctx, (0,), route.emb)
    rows: list[Tensor] = []
    taken = 0
    for block in backbone.chosen(route):
        count = len(block.rings(backbone.max_length) or ())
        x, new = block.step(x, memories[taken : taken + count], at)
        taken += count
        rows += [row.squeeze(1) for row in new]
    return backbone.left(backbone.norm(x, None), route.emb).squeeze(1), tuple(rows)
