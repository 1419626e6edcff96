"""Older steps side by side: what convolutions and pooling over a history read, and never a younger step.

A layer that reads the steps at ``offsets`` back (newest last) can run on all steps of a batch, or on just those that the newest
step depends on. Steps before the first event count as zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.context import Context, Steps, constant
from leanrec.core.types import Memory

Offsets = tuple[int, ...]


def causal_offsets(kernel: int, dilation: int = 1) -> Offsets:
    """How far back each of ``kernel`` taps looks, newest last."""
    return tuple(dilation * i for i in reversed(range(kernel)))


def taps(x: Tensor, offsets: Offsets, ctx: Context, have: Steps, want: Steps) -> Tensor:
    """The inputs at ``offsets`` of the steps ``want``, [B, S', kernel * w], from states [B, S, w] at steps ``have``."""
    if want is None or have is None:
        return ctx.restrict(shifted(x, offsets), have, want)
    exists = ctx.valid(have, x)
    x = x if exists is None else x * exists
    lookups = _lookups(have, want, offsets)
    if len(have) in lookups:
        x = F.pad(x, (0, 0, 0, 1))
    return x.index_select(1, constant(lookups, x.device)).unflatten(1, (len(want), len(offsets))).flatten(2)


def shifted(x: Tensor, offsets: Offsets) -> Tensor:
    """The taps [B, T, kernel * w] of all steps: [B, T, w] moved back by every offset, zeros before the first step."""
    return cast(Tensor, _Shifted.apply(x, offsets)) if x.requires_grad else _side_by_side(x, offsets)


def largest(x: Tensor, offsets: Offsets) -> Tensor:
    """The largest of every step's inputs at ``offsets``, whose last is 0, for all steps: [B, T, w] as given.

    Of equal inputs the newest has the gradient.
    """
    return cast(Tensor, _Largest.apply(x, offsets)) if x.requires_grad else _largest(x, offsets)


def window(offsets: Offsets) -> tuple[Memory, ...]:
    """The memory of a layer that reads its input at ``offsets``; none where it reads the newest step only."""
    return (Memory(offsets[:-1]),) if len(offsets) > 1 else ()


def cone(want: Steps, offsets: Offsets, steps: int) -> Steps:
    """The steps below T = ``steps`` that are read to give the steps ``want``."""
    return None if want is None else _below(want, offsets, steps)


def union(wants: Sequence[Steps]) -> Steps:
    """All steps that anyone wants."""
    found: set[int] = set()
    for want in wants:
        if want is None:
            return None
        found.update(want)
    return tuple(sorted(found))


@lru_cache(maxsize=1024)
def _lookups(have: tuple[int, ...], want: tuple[int, ...], offsets: Offsets) -> tuple[int, ...]:
    """Where the taps of the steps ``want`` stand among states at steps ``have``; one past the last where no history reaches."""
    place = {step: i for i, step in enumerate(have)}
    return tuple(place.get(step + back, len(have)) for step in want for back in offsets)


@lru_cache(maxsize=1024)
def _below(want: tuple[int, ...], offsets: Offsets, steps: int) -> tuple[int, ...]:
    return tuple(sorted({step + back for step in want for back in offsets if step + back < steps}))


def _side_by_side(x: Tensor, offsets: Offsets) -> Tensor:
    steps, most = x.shape[1], offsets[0]
    padded = F.pad(x, (0, 0, most, 0))
    return torch.cat([padded[:, most - back :][:, :steps] for back in offsets], -1)


def _largest(x: Tensor, offsets: Offsets) -> Tensor:
    return _side_by_side(x, offsets).unflatten(-1, (len(offsets), -1)).amax(-2)


class _Shifted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, offsets: Offsets) -> Tensor:
        ctx.offsets = offsets
        return _side_by_side(x, offsets)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        steps, parts = grads[0].shape[1], grads[0].chunk(len(ctx.offsets), -1)
        found = torch.zeros_like(parts[0], memory_format=torch.contiguous_format)
        for back, part in zip(ctx.offsets, parts, strict=True):
            found[:, : max(0, steps - back)] += part[:, back:]
        return found, None


class _Largest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, offsets: Offsets) -> Tensor:
        ctx.offsets, best = offsets, _largest(x, offsets)
        ctx.save_for_backward(x, best)
        return best

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, best = ctx.saved_tensors
        steps, found = x.shape[1], torch.zeros_like(x)
        taken = torch.zeros_like(x, dtype=torch.bool)
        for back in reversed(ctx.offsets):
            end = max(0, steps - back)
            equal = x[:, :end] == best[:, back:]
            found[:, :end].addcmul_(grads[0][:, back:], equal > taken[:, back:])
            taken[:, back:] |= equal
        return found, None
