"""The operations that an edge of a cell may be, by name. All are causal: they read a step and older ones, never a younger one.

    conv3, conv5x2    convolution over 3 steps; over 5, every second step; then a norm
    max3, avg3x2      the largest or the mean value over so many steps
    attention         self-attention over all older steps, then a norm
    skip              the state as it is
    none              nothing

Length and channels stay. Every operation works on any prefix of the channels and on masked ones, as blocks do.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from leanrec.core.context import Context, Steps
from leanrec.core.errors import ConfigError
from leanrec.core.types import Memory
from leanrec.layers.attention import Attention
from leanrec.layers.elastic import ElasticConv, ElasticNorm
from leanrec.layers.taps import causal_offsets, cone, largest, taps, window

NONE, SKIP, ATTENTION = "none", "skip", "attention"
WINDOWED = re.compile(r"(conv|max|avg)([1-9]\d?)(?:x([2-9]|[1-9]\d))?")
EPS = 1e-5


class Operation(nn.Module, ABC):
    """The operation of an edge of a cell: like a `Block`, without the residual sum."""

    @abstractmethod
    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        """States [B, S, w] at steps ``have`` to states [B, S', w] at steps ``want``."""

    def needs(self, want: Steps, steps: int) -> Steps:
        """The input steps from which the steps ``want`` can be computed."""
        return want

    def layers(self) -> tuple[tuple[nn.Module, ...], ...]:
        """As `Block.layers`."""
        return ()

    @property
    def memories(self) -> tuple[Memory, ...]:
        """As `Block.memories`."""
        return ()

    def rows(self, x: Tensor) -> tuple[Tensor, ...]:
        """As `Block.rows`, from all steps [B, T, w]."""
        return ()

    @abstractmethod
    def step(self, x: Tensor, read: Sequence[Tensor], at: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As `Block.step`."""


class Convolution(Operation):
    """A causal convolution and a norm.

    Args:
        width: Channels D.
        kernel: Taps.
        dilation: Steps between taps.
    """

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.conv, self.norm = ElasticConv(width, kernel, dilation), ElasticNorm(width, EPS)

    def needs(self, want: Steps, steps: int) -> Steps:
        """The cone below the wanted steps."""
        return cone(want, self.conv.offsets, steps)

    def layers(self) -> tuple[tuple[nn.Module, ...], ...]:
        """One convolution."""
        return ((self.conv,),)

    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        return self.norm(ctx.gate(self.conv(taps(x, self.conv.offsets, ctx, have, want))), ctx.channels)

    @property
    def memories(self) -> tuple[Memory, ...]:
        """The input."""
        return window(self.conv.offsets)

    def rows(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,) * len(self.memories)

    def step(self, x: Tensor, read: Sequence[Tensor], at: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.norm(self.conv(torch.cat([*read, x], 1))), (x,) * len(read)


class Pooling(Operation):
    """The largest or the mean value of a channel over a window that ends at the step.

    Steps before the first event are zeros. Inputs are not negative, so the largest is one of the events'.

    Args:
        kernel: Steps of the window.
        dilation: Steps between them.
        largest: Whether it is the largest value, or the mean.
    """

    def __init__(self, kernel: int, dilation: int, largest: bool) -> None:
        super().__init__()
        self.offsets, self.largest = causal_offsets(kernel, dilation), largest

    def needs(self, want: Steps, steps: int) -> Steps:
        """The cone below the wanted steps."""
        return cone(want, self.offsets, steps)

    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        if self.largest and want is None:
            return largest(x, self.offsets)
        return self._pooled(taps(x, self.offsets, ctx, have, want))

    @property
    def memories(self) -> tuple[Memory, ...]:
        """The input."""
        return window(self.offsets)

    def rows(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,) * len(self.memories)

    def step(self, x: Tensor, read: Sequence[Tensor], at: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self._pooled(torch.cat([*read, x], 1)), (x,) * len(read)

    def _pooled(self, side_by_side: Tensor) -> Tensor:
        """The inputs at ``offsets`` side by side, [..., kernel * w], to [..., w]."""
        first, *others = side_by_side.chunk(len(self.offsets), -1)
        if self.largest:
            return reduce(torch.maximum, others, first)
        return reduce(torch.add, others, first) / len(self.offsets)


class SelfAttention(Operation):
    """Causal self-attention and a norm.

    Args:
        width: Channels D.
        heads: Attention heads; must divide ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.norm = Attention(width, heads, 0.0), ElasticNorm(width, EPS)

    def needs(self, want: Steps, steps: int) -> Steps:
        """Attention reads every step."""
        return None

    def layers(self) -> tuple[tuple[nn.Module, ...], ...]:
        """One attention layer."""
        return ((self.attention,),)

    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        return self.norm(ctx.gate(self.attention(x, ctx, have, want)), ctx.channels)

    @property
    def memories(self) -> tuple[Memory, ...]:
        """Keys and values."""
        return self.attention.memories

    def rows(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.attention.rows(x)

    def step(self, x: Tensor, read: Sequence[Tensor], at: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        y, rows = self.attention.step(x, read, at)
        return self.norm(y), rows


class Skip(Operation):
    """The state as it is."""

    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        return ctx.restrict(x, have, want)

    def step(self, x: Tensor, read: Sequence[Tensor], at: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return x, ()


class Nothing(Operation):
    """Zeros, which read nothing. A cell leaves such an edge out and does not ask it."""

    def needs(self, want: Steps, steps: int) -> Steps:
        """No step at all."""
        return ()

    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        return zeros(x, ctx, want)

    def step(self, x: Tensor, read: Sequence[Tensor], at: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return torch.zeros_like(x), ()


def zeros(x: Tensor, ctx: Context, want: Steps) -> Tensor:
    """Zeros [B, S', w] at steps ``want`` for states [B, S, w]."""
    return torch.zeros(
        x.shape[0], ctx.steps if want is None else len(want), x.shape[-1], dtype=x.dtype, device=x.device
    )


def operation(name: str, width: int, heads: int, where: str) -> Operation:
    """The operation of that name.

    Args:
        name: See the module.
        width: Channels D.
        heads: Of attention.
        where: The configuration key, for the message.

    Raises:
        ConfigError: There is none.
    """
    if name in (NONE, SKIP, ATTENTION):
        if name == ATTENTION:
            if width % heads:
                raise ConfigError(
                    f"expected backbone.width to be a multiple of backbone.heads ({heads}) for the operation attention in {where}, "
                    f"got {width}; {width // heads * heads or heads} would work"
                )
            return SelfAttention(width, heads)
        return Skip() if name == SKIP else Nothing()
    found = WINDOWED.fullmatch(name)
    if found is None:
        raise ConfigError(
            f"expected operations such as conv3, conv5x2 (5 steps, every second one), max3, avg3, attention, skip and none "
            f"in {where}, got {name!r}"
        )
    kind, kernel, dilation = found[1], int(found[2]), int(found[3] or 1)
    return Convolution(width, kernel, dilation) if kind == "conv" else Pooling(kernel, dilation, kind == "max")
