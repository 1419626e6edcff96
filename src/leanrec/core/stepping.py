"""Sessions: a backbone's answer to one more event, from the memories of its blocks instead of the whole history.

What a memory holds and how a step reads it, a block says (`Block.memories`, `Block.rows`, `Block.step`); here are the loops over
the blocks of a route. The rows that all windows are read at are one tensor, and so are the new rows: few large inputs cost less.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from leanrec.core.backbone import Backbone
from leanrec.core.context import Context, Steps
from leanrec.core.types import FULL, NO_NETWORK, Batch, Memory, Route


def memories(backbone: Backbone, route: Route = FULL) -> tuple[Memory, ...] | None:
    """The memories of a route's blocks, in order; None where an event cannot be computed from memories.

    That is where states depend on newer events, and where more is read than items: times are read relative to the newest event. A
    user whom the network does not answer leaves it nothing to remember.
    """
    if not backbone.causal or backbone.reads or route == NO_NETWORK:
        return None
    found = [block.memories() for block in backbone.chosen(route)]
    return None if None in found else tuple(memory for some in found for memory in some or ())


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
    backbone: Backbone, ids: Tensor, at: Tensor, read: Sequence[Tensor], route: Route = FULL
) -> tuple[Tensor, Tensor]:
    """The newest states [B, e] after one more event, and the new rows [B, M * w] of the M memories, side by side.

    Args:
        backbone: Whose blocks run.
        ids: int64 [B], the newest items.
        at: int64 [B], their steps.
        read: What is read of the memories of older steps: of all windows side by side [B, K * w], if there is one; then
            every memory that is read whole, [B, H, R, w / H].
        route: The sub-model, which must be that of the memories.
    """
    width = route.width or backbone.width
    ctx = Context(at + 1, 1, width, reach=1)
    x = backbone.entered(ids[:, None], ctx, (0,), route.emb).squeeze(1)
    blocks = backbone.chosen(route)
    kept = [block.memories() or () for block in blocks]
    sizes = [len(memory.back) * width for some in kept for memory in some if memory.back]
    windows = iter(torch.split(read[0], sizes, 1) if sizes else ())
    whole = iter(read[1:] if sizes else read)
    rows: list[Tensor] = []
    for block, some in zip(blocks, kept, strict=True):
        x, new = block.step(x, [next(windows if memory.back else whole) for memory in some], at)
        rows += new
    states = backbone.left(backbone.norm(x, None), route.emb)
    return states, torch.cat(rows, 1) if rows else x[:, :0]
