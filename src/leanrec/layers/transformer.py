"""Transformer blocks over histories, and the backbone made of them: what SASRec and BERT4Rec share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.core.backbone import Backbone, Block
from leanrec.core.context import Context, Steps
from leanrec.core.dropout import dropout
from leanrec.core.errors import ConfigError
from leanrec.core.ranges import Count, Few, Positive, Share
from leanrec.core.types import Memory
from leanrec.items.tables import PlainTable
from leanrec.layers.attention import Attention
from leanrec.layers.elastic import ElasticLinear, ElasticNorm
from leanrec.layers.gates import ReZero

ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu}


class TransformerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The shape of a Transformer over histories.

    Attributes:
        width: Channels D of the item table and of every block.
        layers: Number of blocks L.
        heads: Attention heads; must divide ``width``.
        ffn: Inner width of the feed-forward layer, as a multiple of ``width``.
        activation: Activation of the feed-forward layer.
        dropout: On the input and on both branches of a block.
        attention_dropout: On the attention weights.
        max_length: Longest history read, in events.
        norm: "pre" normalises the input of a branch, "post" the sum.
        rezero: Multiply each branch by a learned scalar that starts at zero.
        scale: Multiply item vectors by sqrt(width) at the input.
        positions: How the learned positions start: at "random", or as "sinusoids" (Vaswani et al. 2017, section 3.5), in which
            one event further is the same rotation everywhere.
        std: Standard deviation of the item table and positions at the start.
    """

    width: Count = 64
    layers: Few = 2
    heads: Few = 2
    ffn: Few = 1
    activation: Literal["relu", "gelu"] = "relu"
    dropout: Share = 0.2
    attention_dropout: Share = 0.0
    max_length: Count = 50
    norm: Literal["pre", "post"] = "pre"
    rezero: bool = False
    scale: bool = True
    positions: Literal["random", "sinusoids"] = "random"
    std: Positive = 0.02


class TransformerBlock(Block):
    """Attention, then a position-wise feed-forward layer, each a residual branch.

    Args:
        config: Its shape.
        causal: Whether attention sees older steps only.
    """

    def __init__(self, config: TransformerConfig, causal: bool) -> None:
        super().__init__()
        d = config.width
        self.ffn, self.dropout, self.pre = config.ffn, config.dropout, config.norm == "pre"
        self.activation = ACTIVATIONS[config.activation]
        self.attention = Attention(d, config.heads, config.attention_dropout, causal)
        self.inner, self.outer = ElasticLinear(d, config.ffn * d), ElasticLinear(config.ffn * d, d)
        self.norms = nn.ModuleList([ElasticNorm(d), ElasticNorm(d)])
        self.scales = nn.ModuleList([ReZero() if config.rezero else nn.Identity() for _ in range(2)])

    def needs(self, want: Steps, steps: int) -> Steps:
        """Attention reads every step."""
        return None

    def layers(self) -> tuple[tuple[nn.Module, ...], ...]:
        """Attention and the feed-forward layer."""
        return (self.attention,), (self.inner, self.outer)

    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        source = self.norms[0](x, ctx.channels) if self.pre else x
        y = self._add(0, ctx.restrict(x, have, want), self.attention(source, ctx, have, want), ctx)
        source = self.norms[1](y, ctx.channels) if self.pre else y
        return self._add(1, y, self._feed_forward(source, ctx), ctx)

    def memories(self) -> tuple[Memory, ...] | None:
        """Keys and values, where attention sees older steps only."""
        return self.attention.memories if self.attention.causal else None

    def rows(self, x: Tensor, ctx: Context) -> tuple[Tensor, ...]:
        return self.attention.rows(self.norms[0](x, None) if self.pre else x)

    def step(self, x: Tensor, read: Sequence[Tensor], at: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        ctx = Context(at + 1, 1, x.shape[-1])
        y, rows = self.attention.step(self.norms[0](x, None) if self.pre else x, read, at)
        y = self._add(0, x, y, ctx)
        return self._add(1, y, self._feed_forward(self.norms[1](y, None) if self.pre else y, ctx), ctx), rows

    def _feed_forward(self, x: Tensor, ctx: Context) -> Tensor:
        inner = self.activation(self.inner(x, self.ffn * x.shape[-1]))
        if ctx.channels is not None:  # the first ffn * w inner units belong to the first w channels
            inner = inner * ctx.channels.repeat_interleave(self.ffn, -1)
        return self.outer(dropout(inner, self.dropout, self.training), x.shape[-1])

    def _add(self, branch: int, x: Tensor, y: Tensor, ctx: Context) -> Tensor:
        y = x + self.scales[branch](dropout(ctx.gate(y), self.dropout, self.training))
        return y if self.pre else self.norms[branch](y, ctx.channels)


class Transformer(Backbone):
    """Item vectors and learned positions, Transformer blocks, a final norm. ``causal`` decides what attention sees.

    Args:
        config: Its shape.
        num_items: Items N of the catalogue.
        steps: Positions it has; at least ``max_length``.

    Raises:
        ConfigError: ``width`` does not divide by ``heads``.
    """

    supports: ClassVar[frozenset[str]] = frozenset({"width", "depth", "share"})

    def __init__(self, config: TransformerConfig, num_items: int, steps: int) -> None:
        super().__init__()
        if config.width % config.heads:
            works = config.width // config.heads * config.heads or config.heads
            raise ConfigError(
                f"expected backbone.width to be a multiple of backbone.heads ({config.heads}), got {config.width}; "
                f"{works} would work"
            )
        self.config = config
        self.width, self.max_length, self.heads = config.width, config.max_length, config.heads
        self.scale, self.dropout = config.width**0.5 if config.scale else 1.0, config.dropout
        self.items = PlainTable(num_items, config.width, config.std)
        start = torch.randn(steps, config.width) if config.positions == "random" else sinusoids(steps, config.width)
        self.positional = nn.Parameter(start * config.std)
        self.blocks = nn.ModuleList(TransformerBlock(config, self.causal) for _ in range(config.layers))
        self.norm = ElasticNorm(config.width)

    def positions(self, ctx: Context, have: Steps) -> Tensor:
        """Learned positions, counted from the oldest event that is read: [T, w] or [B, S, w]."""
        at = torch.arange(ctx.steps, device=ctx.lengths.device) if have is None else ctx.at(have).clamp_min(0)
        return F.embedding(at, self.positional[:, : ctx.width])


def sinusoids(steps: int, width: int) -> Tensor:
    """Positions [T, D] of unit mean square: sines in even channels, cosines in odd ones, wavelengths from 2 pi to 20000 pi."""
    channel = torch.arange(width)
    angle = torch.arange(steps)[:, None] / 10000 ** (channel // 2 * 2 / width)
    return math.sqrt(2) * torch.where(channel % 2 == 0, angle.sin(), angle.cos())
