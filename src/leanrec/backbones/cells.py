"""Cells: a stack of small graphs of causal operations, whose architecture is data (Chen et al., 2021, arXiv 2107.07173).

    x_0 = s E[items] (+ P)
    x_{l+1} = x_l + relu(Norm(sum_i a_i node_i(x_l)))        (`layers.cells`)
    score_i = Norm(x_L) . E[i]

``architecture`` names the operation of every edge of a cell. One that a search has found is written here, so that it can
be trained again, from scratch or on other data, like any other model.

Deviations from the published student, most of them of a fault of its code: every operation is causal; layer norms instead of batch
norms, whose statistics saw padding; positions are an option; item vectors score the catalogue (tied); a final norm.
"""

from __future__ import annotations

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.backbones import backbones
from leanrec.core.context import Context, Steps
from leanrec.core.ranges import Count, Few, Positive, Share
from leanrec.items.tables import PlainTable
from leanrec.layers.cell_stack import CellStack
from leanrec.layers.elastic import ElasticNorm


class CellsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cells of causal operations, whose architecture is given or searched (arXiv 2107.07173).

    Attributes:
        width: Channels D of the item table and of every cell.
        layers: Number of cells L.
        nodes: Nodes n of a cell, which has n (n + 1) / 2 edges.
        architecture: The operation of every edge, for all cells, or of every edge of every cell (`layers.operations`); none for
            conv3 everywhere, or for a technique that searches to find one.
        heads: Heads of attention, where there is any.
        dropout: On the input and on every cell's branch.
        max_length: Longest history read, in events.
        rezero: Multiply every cell's branch by a learned scalar that starts at zero.
        positions: Add learned positions at the input.
        scale: Multiply item vectors by sqrt(width) at the input.
        std: Standard deviation of the item table and positions at the start.
    """

    width: Count = 64
    layers: Few = 4
    nodes: Few = 3
    architecture: tuple[str, ...] = ()
    heads: Few = 2
    dropout: Share = 0.1
    max_length: Count = 50
    rezero: bool = False
    positions: bool = False
    scale: bool = True
    std: Positive = 0.02


@backbones.register("cells", CellsConfig)
class Cells(CellStack):
    """The backbone of cells.

    Args:
        config: Its shape and architecture.
        num_items: Items N of the catalogue.

    Raises:
        ConfigError: The architecture has another number of edges, or an unknown operation.
    """

    def __init__(self, config: CellsConfig, num_items: int) -> None:
        shape = (config.width, config.layers, config.nodes, config.architecture, config.heads)
        super().__init__(*shape, config.dropout, config.rezero)
        self.config, self.max_length = config, config.max_length
        self.scale, self.dropout = config.width**0.5 if config.scale else 1.0, config.dropout
        self.items = PlainTable(num_items, config.width, config.std)
        start = torch.randn(config.max_length, config.width) * config.std if config.positions else None
        self.positional = None if start is None else nn.Parameter(start)
        self.norm = ElasticNorm(config.width)

    def renewed(self) -> CellStack:
        return type(self)(msgspec.structs.replace(self.config, architecture=self.architecture), self.items.num_items)

    def positions(self, ctx: Context, have: Steps) -> Tensor | None:
        """Learned positions, counted from the oldest event that is read: [T, w] or [B, S, w]."""
        if self.positional is None:
            return None
        at = torch.arange(ctx.steps, device=ctx.lengths.device) if have is None else ctx.at(have).clamp_min(0)
        return F.embedding(at, self.positional[:, : ctx.width])
