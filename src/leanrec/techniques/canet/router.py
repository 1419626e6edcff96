"""The router of the paper's code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from leanrec.core.context import Context
from leanrec.layers.transformer import TransformerBlock, TransformerConfig
from leanrec.routing.router import TableRouter


class OwnRouter(TableRouter):
    """The paper's router: its own item table of 32 channels, one bidirectional Transformer block, the newest step's vector.

    Args:
        num_items: Items N.
        routes: K.
        max_length: Longest sequence.
        width: Channels of the table and the block.
        heads: Attention heads.
        dropout: As in the backbone.
    """

    def __init__(
        self, num_items: int, routes: int, max_length: int, width: int = 32, heads: int = 4, dropout: float = 0.2
    ) -> None:
        shape = TransformerConfig(
            width=width, heads=heads, ffn=4, activation="gelu", dropout=dropout, norm="post", rezero=True
        )
        super().__init__(num_items, routes, max_length, width, shape.std)
        self.positional = nn.Parameter(torch.randn(max_length, width) * shape.std)
        self.block = TransformerBlock(shape, causal=False)

    def read(self, x: Tensor, ctx: Context) -> Tensor:
        return self.block(x + self.positional[: ctx.steps], ctx, None, (0,)).squeeze(1)
