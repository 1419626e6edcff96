"""GRU4Rec: gated recurrent units over the history (Hidasi et al., ICLR 2016, arXiv 1511.06939; Hidasi and Karatzoglou, CIKM 2018).

    r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)        (eqs. 2-5 of the first paper, in torch's form: the reset gate acts on U h + b)
    z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)
    n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + c_n))
    h_t = (1 - z_t) n_t + z_t h_{t-1}
    block: y = x + alpha GRU(Norm(x))                 (residual, so that a block can be skipped)

Width: a prefix of the channels is a smaller GRU. A closed channel must not move during the recurrence, because open ones read it;
`layers.recurrent` holds it at zero, so masked and sliced execution agree.

Deviations: blocks are residual with a norm before them, as deep stacks need; item vectors score the catalogue (tied); the loss
is an objective of its own, not TOP1 or BPR-max with in-batch negatives; batches hold whole histories, not parallel sessions.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from torch import Tensor, nn

from leanrec.backbones import backbones
from leanrec.core.backbone import Backbone, Block
from leanrec.core.context import Context, Steps
from leanrec.core.dropout import dropout
from leanrec.core.ranges import Count, Few, Positive, Share
from leanrec.core.types import Memory
from leanrec.items.tables import PlainTable
from leanrec.layers.elastic import ElasticNorm
from leanrec.layers.gates import ReZero
from leanrec.layers.recurrent import ElasticGRU


class GRU4RecConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Gated recurrent units over the history (ICLR 2016).

    Attributes:
        width: Channels D of the item table and of every block.
        layers: Number of residual blocks L.
        dropout: On the input and on every branch.
        max_length: Longest history read, in events.
        rezero: Multiply each branch by a learned scalar that starts at zero.
        scale: Multiply item vectors by sqrt(width) at the input.
        std: Standard deviation of the item table at the start.
    """

    width: Count = 64
    layers: Few = 1
    dropout: Share = 0.2
    max_length: Count = 50
    rezero: bool = False
    scale: bool = True
    std: Positive = 0.02


class GRU4RecBlock(Block):
    """A norm and a GRU, added to the input."""

    def __init__(self, config: GRU4RecConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.norm, self.gru = ElasticNorm(config.width), ElasticGRU(config.width)
        self.scale = ReZero() if config.rezero else nn.Identity()

    def needs(self, want: Steps, steps: int) -> Steps:
        """Recurrence reads every step."""
        return None

    def layers(self) -> tuple[tuple[nn.Module, ...], ...]:
        """One GRU."""
        return ((self.gru,),)

    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        y = ctx.restrict(self.gru(self.norm(x, ctx.channels), ctx.channels), have, want)
        return ctx.restrict(x, have, want) + self.scale(dropout(y, self.dropout, self.training))

    def memories(self) -> tuple[Memory, ...]:
        """The states."""
        return (Memory((1,)),)

    def rows(self, x: Tensor, ctx: Context) -> tuple[Tensor, ...]:
        return (self.gru(self.norm(x, None)),)

    def step(self, x: Tensor, read: Sequence[Tensor], at: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        y = self.gru.step(self.norm(x, None), read[0])
        return x + self.scale(y), (y,)


@backbones.register("gru4rec", GRU4RecConfig)
class GRU4Rec(Backbone):
    """The GRU4Rec backbone.

    Args:
        config: Its shape.
        num_items: Items N of the catalogue.
    """

    supports = frozenset({"width", "depth", "share"})

    def __init__(self, config: GRU4RecConfig, num_items: int) -> None:
        super().__init__()
        self.config = config
        self.width, self.max_length = config.width, config.max_length
        self.scale, self.dropout = config.width**0.5 if config.scale else 1.0, config.dropout
        self.items = PlainTable(num_items, config.width, config.std)
        self.blocks = nn.ModuleList(GRU4RecBlock(config) for _ in range(config.layers))
        self.norm = ElasticNorm(config.width)
