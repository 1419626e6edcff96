"""A backbone: what comes next depends on the newest item alone, through one linear layer."""

from __future__ import annotations

import msgspec
from torch import Tensor, nn

from leanrec.backbones import backbones
from leanrec.core.backbone import Backbone, Block
from leanrec.core.context import Context, Steps
from leanrec.items.tables import PlainTable
from leanrec.layers.elastic import ElasticLinear, ElasticNorm


class MarkovConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A factorised Markov chain."""

    width: int = 8
    max_length: int = 10


class Transition(Block):
    """A linear layer, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = ElasticLinear(width, width)

    def needs(self, want: Steps, steps: int) -> Steps:
        return want

    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        x = ctx.restrict(x, have, want)
        return x + self.linear(x, x.shape[-1])


@backbones.register("markov", MarkovConfig)
class Markov(Backbone):
    """The backbone."""

    supports = frozenset({"width"})

    def __init__(self, config: MarkovConfig, num_items: int) -> None:
        super().__init__()
        self.width, self.max_length = config.width, config.max_length
        self.items = PlainTable(num_items, config.width, 0.1)
        self.blocks = nn.ModuleList([Transition(config.width)])
        self.norm = ElasticNorm(config.width)
