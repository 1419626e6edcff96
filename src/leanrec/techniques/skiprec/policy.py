"""SkipRec's policy: for every user and every block, how much speaks for keeping it.

    odds_l = log p(keep l) - log p(skip l)

A policy reads a history in one of four ways (paper, section on the policy network, and its ablation): two convolution blocks, a
GRU, or one attention block over an item table of its own, or a small layer over the backbone's table (`SharedRouter`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from leanrec.core.backbone import Backbone, ItemTable
from leanrec.core.context import Context
from leanrec.core.errors import ConfigError
from leanrec.core.types import FULL, Batch, Route
from leanrec.layers.convolution import ConvBlock
from leanrec.layers.recurrent import ElasticGRU
from leanrec.layers.transformer import TransformerBlock, TransformerConfig
from leanrec.routing.router import Router, SharedRouter, TableRouter

STD = 0.02
"""Of a policy's own item table at the start."""
HEAD_STD = 0.01
"""Of the last layer's weights at the start."""
DILATIONS = (1, 4)
"""Of the convolution blocks of a policy."""


class ConvReader(TableRouter):
    """One {1, 4} unit of NextItNet with ReZero, then the mean over time."""

    def __init__(self, num_items: int, outputs: int, max_length: int, width: int) -> None:
        super().__init__(num_items, outputs, max_length, width, STD)
        self.blocks = nn.ModuleList(ConvBlock(width, 3, dilation, 0.0, True) for dilation in DILATIONS)

    def read(self, x: Tensor, ctx: Context) -> Tensor:
        for block in self.blocks:
            x = block(x, ctx, None, None)
        return mean_over_time(x, ctx)


class GRUReader(TableRouter):
    """A GRU's state after the newest step."""

    def __init__(self, num_items: int, outputs: int, max_length: int, width: int) -> None:
        super().__init__(num_items, outputs, max_length, width, STD)
        self.gru = ElasticGRU(width)

    def read(self, x: Tensor, ctx: Context) -> Tensor:
        return ctx.restrict(self.gru(x), None, (0,)).squeeze(1)


class AttentionReader(TableRouter):
    """One causal Transformer block with learned positions, then the mean over time."""

    def __init__(self, num_items: int, outputs: int, max_length: int, width: int) -> None:
        super().__init__(num_items, outputs, max_length, width, STD)
        shape = TransformerConfig(width=width, heads=1, dropout=0.0, rezero=True)
        self.positional = nn.Parameter(torch.randn(max_length, width) * STD)
        self.block = TransformerBlock(shape, causal=True)

    def read(self, x: Tensor, ctx: Context) -> Tensor:
        return mean_over_time(self.block(x + self.positional[: ctx.steps], ctx, None, None), ctx)


READERS: dict[str, type[ConvReader | GRUReader | AttentionReader]] = {
    "conv": ConvReader,
    "gru": GRUReader,
    "attention": AttentionReader,
}


def mean_over_time(x: Tensor, ctx: Context) -> Tensor:
    """Mean [B, C] of the states [B, T, C] of steps that exist."""
    exists = torch.arange(ctx.steps, device=x.device) < ctx.lengths[:, None]
    return (x * exists.unsqueeze(-1)).sum(1) / ctx.lengths[:, None]


class Policy(Router):
    """Scores patterns of blocks by what a user's history says of every block.

        score_k = sum over the blocks l of pattern k of odds_l + bias_k

    With the biases at zero that is the log-probability of the pattern, up to a constant of the user. The menu of patterns that
    are served is chosen when the weights are trained; until then it holds evenly spread blocks, from few to all.

    Args:
        backbone: Whose blocks are skipped.
        reads: "shared" or one of `READERS`.
        width: Channels of a policy's own item table.
        patterns: K, the size of the menu; the last one keeps every block.
        bounded: Squash the two logits of a block by a sigmoid before they are compared, as in the published code: no
            keep-probability leaves (0.269, 0.731) then. Without it the odds are those of a log-softmax.

    Attributes:
        menu: bool [K, L].
        routes: The patterns of the menu as routes.

    Raises:
        ConfigError: The backbone has a single block, or fewer than 2 patterns were asked for.
    """

    menu: Tensor
    routes: tuple[Route, ...]

    def __init__(self, backbone: Backbone, reads: str, width: int, patterns: int, bounded: bool) -> None:
        super().__init__()
        self.blocks, self.bounded = len(backbone.blocks), bounded
        if self.blocks < 2:
            raise ConfigError(
                f"expected at least 2 blocks to skip from, got backbone.layers={self.blocks}; 8 would work"
            )
        if patterns < 2:
            raise ConfigError(
                f"expected at least 2 patterns in technique.skiprec.patterns, got {patterns}; 12 would work"
            )
        count, outputs = min(patterns, 2**self.blocks), 2 * self.blocks
        if reads == "shared":
            self.reader: Router = SharedRouter(backbone.items.dim, outputs)
        else:
            self.reader = READERS[reads](backbone.items.num_items, outputs, backbone.max_length + 1, width)
            nn.init.normal_(self.reader.out.weight, std=HEAD_STD)
            nn.init.normal_(self.reader.out.bias, std=HEAD_STD)
        self.bias = nn.Parameter(torch.zeros(count))
        self.register_buffer("menu", torch.zeros(count, self.blocks, dtype=torch.bool))
        self.serve(self.menu[:0])
        self.register_load_state_dict_post_hook(lambda module, keys: module._name())

    def features(self, items: ItemTable, batch: Batch) -> Tensor:
        return self.reader.features(items, batch)

    def odds(self, features: Tensor) -> Tensor:
        """Log-odds [B, L] of keeping each block, of features [B, F]."""
        return self._odds(self.reader.score(features))

    def score(self, features: Tensor) -> Tensor:
        return self._scores(self.odds(features))

    def forward(self, items: ItemTable, batch: Batch) -> Tensor:
        """As `Router.forward`, in the reader's own way."""
        return self._scores(self._odds(self.reader(items, batch)))

    def _odds(self, logits: Tensor) -> Tensor:
        keep, skip = logits.unflatten(-1, (self.blocks, 2)).unbind(-1)
        return keep.sigmoid() - skip.sigmoid() if self.bounded else keep - skip

    def _scores(self, odds: Tensor) -> Tensor:
        return odds @ self.menu.to(odds.dtype).t() + self.bias

    def standardise(self, features: Tensor, share: float = 1.0) -> None:
        self.reader.standardise(features, share)

    @torch.no_grad()
    def rescale(self, factor: Tensor, shift: Tensor) -> None:
        """Rescale the scores of a policy whose odds are not bounded."""
        self.reader.rescale(factor, torch.zeros_like(self.reader.out.bias))
        self.bias.copy_(self.bias * factor + shift)

    @torch.no_grad()
    def serve(self, patterns: Tensor) -> None:
        """Take the patterns bool [K', L], K' at most K, for the menu; free places go to other patterns.

        The menu goes by the number of blocks, and the whole model comes last.
        """
        wanted = [tuple(pattern) for pattern in patterns.tolist()] if len(patterns) else []
        count = len(self.menu)
        free = [evenly_kept(self.blocks, k, count) for k in range(count)] + [
            numbered(self.blocks, k) for k in range(count)
        ]
        whole = (True,) * self.blocks
        kept = list(dict.fromkeys(pattern for pattern in [*wanted, *free] if pattern != whole))[: count - 1]
        menu = [*sorted(kept, key=sum), whole]
        self.menu.copy_(torch.tensor(menu))
        self.routes = tuple(route_of(list(pattern)) for pattern in menu)

    def _name(self) -> None:
        self.routes = tuple(map(route_of, self.menu.tolist()))


def route_of(pattern: list[bool]) -> Route:
    """The route that runs the blocks kept in a pattern."""
    return FULL if all(pattern) else Route(layers=tuple(i for i, keep in enumerate(pattern) if keep))


def evenly_kept(blocks: int, step: int, steps: int) -> tuple[bool, ...]:
    """A pattern that keeps about (step + 1) / steps of L blocks, evenly spread; at least one."""
    count = max(1, round(blocks * (step + 1) / steps))
    kept = {i * blocks // count for i in range(count)}
    return tuple(i in kept for i in range(blocks))


def numbered(blocks: int, number: int) -> tuple[bool, ...]:
    """The pattern of L blocks whose bits are those of a number."""
    return tuple(bool(number >> i & 1) for i in range(blocks))
