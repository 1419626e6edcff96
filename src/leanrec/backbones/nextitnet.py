"""NextItNet: dilated causal convolutions (Yuan et al., WSDM 2019, arXiv 1808.05163).

    u = relu(Norm_1(Conv(x_l; dilation d)))           (section 4.3, residual block (b))
    v = relu(Norm_2(Conv(u; dilation 2 d)))
    x_{l+1} = x_l + alpha_l v                         (alpha_l = 1, or learned from 0: ReZero, as in Chen et al., AAAI 2021)

Deviations: item vectors score the catalogue (tied), where the paper has a second matrix; the loss is an objective of its own;
a final norm makes the scale of the scores independent of depth; dropout on the input and on each branch.
"""

from __future__ import annotations

import msgspec
from torch import nn

from leanrec.backbones import backbones
from leanrec.core.backbone import Backbone
from leanrec.core.errors import ConfigError
from leanrec.core.ranges import Count, Few, Positive, Share
from leanrec.items.tables import PlainTable
from leanrec.layers.convolution import ConvBlock
from leanrec.layers.elastic import ElasticNorm


class NextItNetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Dilated causal convolutions over the history (WSDM 2019).

    Attributes:
        width: Channels D of the item table and of every block.
        layers: Number of residual blocks L, each of two convolutions.
        kernel: Taps of a convolution.
        dilations: Base dilation of each block, repeated until all blocks have one; the second convolution doubles it.
        dropout: On the input and on every branch.
        max_length: Longest history read, in events.
        rezero: Multiply each branch by a learned scalar that starts at zero.
        scale: Multiply item vectors by sqrt(width) at the input.
        std: Standard deviation of the item table at the start.
    """

    width: Count = 64
    layers: Few = 4
    kernel: Few = 3
    dilations: tuple[Count, ...] = (1, 4)
    dropout: Share = 0.2
    max_length: Count = 50
    rezero: bool = True
    scale: bool = True
    std: Positive = 0.02


@backbones.register("nextitnet", NextItNetConfig)
class NextItNet(Backbone):
    """The NextItNet backbone.

    Args:
        config: Its shape.
        num_items: Items N of the catalogue.

    Raises:
        ConfigError: No dilations.
    """

    supports = frozenset({"width", "depth", "share"})

    def __init__(self, config: NextItNetConfig, num_items: int) -> None:
        super().__init__()
        if not config.dilations:
            raise ConfigError("expected at least one dilation in backbone.dilations, got []; [1, 4] would work")
        self.config = config
        self.width, self.max_length = config.width, config.max_length
        self.scale, self.dropout = config.width**0.5 if config.scale else 1.0, config.dropout
        self.items = PlainTable(num_items, config.width, config.std)
        cycle = config.dilations
        self.blocks = nn.ModuleList(
            ConvBlock(config.width, config.kernel, cycle[i % len(cycle)], config.dropout, config.rezero)
            for i in range(config.layers)
        )
        self.norm = ElasticNorm(config.width)
