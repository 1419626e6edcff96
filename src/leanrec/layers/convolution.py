"""The residual block of NextItNet: two dilated causal convolutions (Yuan et al., WSDM 2019, section 4.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.core.backbone import Block
from leanrec.core.context import Context, Steps
from leanrec.core.dropout import dropout
from leanrec.core.types import Memory
from leanrec.layers.elastic import ElasticConv, ElasticNorm
from leanrec.layers.gates import ReZero
from leanrec.layers.taps import cone, taps, window


class ConvBlock(Block):
    """Two dilated causal convolutions with norm and ReLU, added to the input.

    Args:
        width: Channels D.
        kernel: Taps of a convolution.
        dilation: Of the first convolution; the second one doubles it.
        drop: Dropout on the branch.
        rezero: Multiply the branch by a learned scalar that starts at zero.
    """

    def __init__(self, width: int, kernel: int, dilation: int, drop: float, rezero: bool) -> None:
        super().__init__()
        self.dropout = drop
        self.first, self.second = (ElasticConv(width, kernel, dilation * m) for m in (1, 2))
        self.first_norm, self.second_norm = ElasticNorm(width), ElasticNorm(width)
        self.scale = ReZero() if rezero else nn.Identity()

    def needs(self, want: Steps, steps: int) -> Steps:
        """The cone of both convolutions below the wanted steps."""
        return cone(cone(want, self.second.offsets, steps), self.first.offsets, steps)

    def layers(self) -> tuple[tuple[nn.Module, ...], ...]:
        """Two convolutions."""
        return (self.first,), (self.second,)

    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        between = cone(want, self.second.offsets, ctx.reach or ctx.steps)
        y = _branch(self.first, self.first_norm, x, ctx, have, between)
        y = _branch(self.second, self.second_norm, y, ctx, between, want)
        return ctx.restrict(x, have, want) + self.scale(dropout(y, self.dropout, self.training))

    def memories(self) -> tuple[Memory, ...]:
        """The inputs of both convolutions."""
        return window(self.first.offsets) + window(self.second.offsets)

    def rows(self, x: Tensor, ctx: Context) -> tuple[Tensor, ...]:
        return (x, _branch(self.first, self.first_norm, x, ctx, None, None))[: len(self.memories())]

    def step(self, x: Tensor, read: Sequence[Tensor], at: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        y = _step(self.first, self.first_norm, x, read[:1])
        return x + self.scale(_step(self.second, self.second_norm, y, read[1:])), (x, y)[: len(read)]


def _step(conv: ElasticConv, norm: ElasticNorm, x: Tensor, older: Sequence[Tensor]) -> Tensor:
    """relu(Norm(Conv(x))) [B, w] at the newest step, from the input there and older ones [B, (kernel - 1) * w], if any are read."""
    return F.relu(norm(conv(torch.cat([*older, x], 1))))


def _branch(conv: ElasticConv, norm: ElasticNorm, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
    """relu(Norm(Conv(x))) at steps ``want``; steps before the first event count as zeros."""
    y = conv(taps(x, conv.offsets, ctx, have, want))
    return F.relu(norm(ctx.gate(y), ctx.channels))
