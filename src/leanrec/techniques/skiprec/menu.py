"""Choose the patterns of blocks that are served."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.types import Batch, Route

MENU_USERS = 1000
"""Validation users on whom patterns are compared."""
PRICES = 64


@torch.no_grad()
def grown(model: Recommender, held_out: HeldOut, count: int) -> Tensor:
    """Grow patterns bool [count, L] greedily: from no block on, each adds the block that lowers the users' loss most."""
    model.eval()
    device = next(model.parameters()).device
    batches = [batch.to(device) for batch in _few(held_out)]
    blocks = len(model.backbone.blocks)
    kept: tuple[int, ...] = ()
    patterns = torch.zeros(min(count, blocks + 1), blocks, dtype=torch.bool)
    for number, pattern in enumerate(patterns[1:], start=1):
        tried = [tuple(sorted((*kept, i))) for i in range(blocks) if i not in kept]
        losses = [sum(_loss(model, batch, Route(layers=layers)) for batch in batches) for layers in tried]
        kept = tried[min(range(len(tried)), key=losses.__getitem__)]
        pattern[list(kept)] = True
        held_out.report("patterns of blocks grown", number, len(patterns) - 1)
    return patterns


def favoured(odds: Tensor, count: int) -> Tensor:
    """The patterns bool [K, L], K at most ``count``, that users with log-odds [U, L] take most often at many prices of compute.

    At a price p a user keeps the blocks whose log-odds are above p; the prices are quantiles of all odds. Every price adds its
    most frequent pattern that no other one has added, the dearest first, until there are enough.
    """
    shares = torch.linspace(1, 0, PRICES, dtype=torch.float64)
    taken: dict[tuple[bool, ...], None] = {}
    ladders = []
    for price in odds.double().flatten().quantile(shares).tolist():
        ladders.append([pattern for pattern, _ in Counter(map(tuple, (odds > price).tolist())).most_common(count)])
    for rank in range(count):
        for ladder in ladders:
            if rank < len(ladder) and len(taken) < count:
                taken.setdefault(ladder[rank])
    return torch.tensor(list(taken), dtype=torch.bool)


def _few(held_out: HeldOut) -> Iterator[Batch]:
    """Batches of the first `MENU_USERS` users."""
    seen = 0
    for batch in held_out.batches():
        rows = torch.arange(min(batch.size, MENU_USERS - seen))
        yield batch.rows(rows)
        seen += len(rows)
        if seen == MENU_USERS:
            return


def _loss(model: Recommender, batch: Batch, route: Route) -> float:
    """Summed negative log-likelihood of the newest steps' targets over the whole catalogue."""
    states, targets = model.represent(batch, route), batch.scored()[1]
    return float(F.cross_entropy(model.score_states(batch, states).float(), targets - 1, reduction="sum"))
