"""Vectors of items that may be kept as int8.

    w = scale * round(w / scale),   scale = max |w| / 127, one a vector, in bfloat16

Training sees the rounded values and passes gradients straight through, so what is trained, validated and stored is one function.
`freeze` then puts the integers in the place of the floats.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INT8_LEVELS = 127
WIDENED = 8192
"""Vectors of int8 that are floats at once."""


def freeze(module: nn.Module) -> None:
    """Put integers in the place of all vectors of a module that are read as int8."""
    for name, child in list(module.named_children()):
        if isinstance(child, Learned) and child.int8:
            setattr(module, name, Integers(child.weight))
        else:
            freeze(child)


class Vectors(nn.Module, ABC):
    """K vectors of d channels, in one of two forms."""

    shape: torch.Size

    @abstractmethod
    def fill(self, weight: Tensor) -> None:
        """Take vectors [K, d]."""

    @abstractmethod
    def all(self) -> Tensor:
        """All vectors, float [K, d]."""

    @abstractmethod
    def stored(self) -> tuple[Tensor, Tensor | None]:
        """What is kept of them: float [K, d] and nothing, or int8 [K, d] and scales [K, 1]."""

    @abstractmethod
    def pick(self, index: Tensor) -> Tensor:
        """Some vectors, float [..., d], by their places [...]."""

    @abstractmethod
    def scores(self, states: Tensor) -> Tensor:
        """Products of states [M, w] with the first channels of all vectors, [M, K]."""


class Learned(Vectors):
    """Vectors that can learn.

    Args:
        weight: float32 [K, d] at the start.
        int8: Whether they are rounded when they are read.
    """

    def __init__(self, weight: Tensor, int8: bool) -> None:
        super().__init__()
        self.shape, self.int8 = weight.shape, int8
        self.weight = nn.Parameter(weight)

    @torch.no_grad()
    def fill(self, weight: Tensor) -> None:
        self.weight.copy_(weight)

    def all(self) -> Tensor:
        return _straight_through(self.weight) if self.int8 else self.weight

    def stored(self) -> tuple[Tensor, Tensor | None]:
        return self.all(), None

    def pick(self, index: Tensor) -> Tensor:
        rows = F.embedding(index, self.weight)
        return _straight_through(rows) if self.int8 else rows

    def scores(self, states: Tensor) -> Tensor:
        return states @ self.all()[:, : states.shape[-1]].t()


class Integers(Vectors):
    """Vectors kept as int8; they do not learn any more.

    Args:
        weight: float32 [K, d] to be rounded.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.shape = weight.shape
        integers, scales = _rounded(weight.detach())
        self.integers = nn.Parameter(integers.to(torch.int8), requires_grad=False)
        self.scales = nn.Parameter(scales, requires_grad=False)

    @torch.no_grad()
    def fill(self, weight: Tensor) -> None:
        for kept, found in zip((self.integers, self.scales), _rounded(weight), strict=True):
            kept.copy_(found)

    def all(self) -> Tensor:
        return self.integers.float() * self.scales.float()

    def stored(self) -> tuple[Tensor, Tensor | None]:
        return self.integers, self.scales

    def pick(self, index: Tensor) -> Tensor:
        return F.embedding(index, self.integers).float() * F.embedding(index, self.scales).float()

    def scores(self, states: Tensor) -> Tensor:
        """Scores as of any vectors; only a few are made floats at once."""
        width = states.shape[-1]
        parts = zip(self.integers.split(WIDENED), self.scales.split(WIDENED), strict=True)
        return torch.cat([(states @ some[:, :width].float().t()) * scale.float().t() for some, scale in parts], 1)


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers [..., d] between -127 and 127, and scales [..., 1] in bfloat16."""
    scales = (weight.abs().amax(-1, keepdim=True) / INT8_LEVELS).clamp_min(torch.finfo(torch.float32).tiny).bfloat16()
    return (weight / scales.float()).round().clamp(-INT8_LEVELS, INT8_LEVELS), scales


def _straight_through(weight: Tensor) -> Tensor:
    """The rounded vectors, with the gradient of the vectors."""
    integers, scales = _rounded(weight.detach())
    return weight + (integers * scales.float() - weight).detach()
