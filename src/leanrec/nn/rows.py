"""Vectors of items that may be kept as int8.

    w = scale * round(w / scale),   scale = max |w| / 127, one a vector, in bfloat16

Training sees the rounded values and passes gradients straight through, so what is trained, validated and stored is one function.
`Rows.freeze` then puts the integers in the place of the floats.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 127
WIDENED = 8192
"""Vectors of int8 that are floats at once."""


class Rows(nn.Module):
    """K vectors of d channels.

    Args:
        weight: float32 [K, d] at the start.
        int8: Whether they are rounded, and kept so once they are frozen.
    """

    weight: nn.Parameter | None
    integers: nn.Parameter | None
    scales: nn.Parameter | None

    def __init__(self, weight: Tensor, int8: bool) -> None:
        super().__init__()
        self.shape, self.int8 = weight.shape, int8
        self.weight = nn.Parameter(weight)
        self.integers = self.scales = None

    def freeze(self) -> None:
        """Keep integers and scales, if the vectors are to be int8; they do not learn any more."""
        if self.int8 and self.weight is not None:
            integers, scales = _rounded(self.weight.detach())
            self.integers = nn.Parameter(integers.to(torch.int8), requires_grad=False)
            self.scales = nn.Parameter(scales, requires_grad=False)
            self.weight = None

    @torch.no_grad()
    def fill(self, weight: Tensor) -> None:
        """Take vectors [K, d]."""
        self.weight.copy_(weight)  # pyright: ignore[reportOptionalMemberAccess]

    def all(self) -> Tensor:
        """All vectors, float [K, d]."""
        if self.weight is None:
            return self.integers.float() * self.scales.float()  # pyright: ignore[reportOptionalMemberAccess]
        return _straight_through(self.weight) if self.int8 else self.weight

    def pick(self, index: Tensor) -> Tensor:
        """Some vectors, float [..., d], by their places [...]."""
        if self.weight is None:
            return F.embedding(index, self.integers).float() * F.embedding(index, self.scales).float()  # pyright: ignore[reportArgumentType]
        rows = F.embedding(index, self.weight)
        return _straight_through(rows) if self.int8 else rows

    def scores(self, states: Tensor) -> Tensor:
        """Products of states [M, w] with the first channels of all vectors, [M, K]."""
        width = states.shape[-1]
        if self.weight is not None:
            return states @ self.all()[:, :width].t()
        parts = zip(self.integers.split(WIDENED), self.scales.split(WIDENED), strict=True)  # pyright: ignore[reportOptionalMemberAccess]
        return torch.cat([(states @ some[:, :width].float().t()) * scale.float().t() for some, scale in parts], 1)


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers [..., d] between -127 and 127, and scales [..., 1] in bfloat16."""
    scales = (weight.abs().amax(-1, keepdim=True) / LEVELS).clamp_min(torch.finfo(torch.float32).tiny).bfloat16()
    return (weight / scales.float()).round().clamp(-LEVELS, LEVELS), scales


def _straight_through(weight: Tensor) -> Tensor:
    """The rounded vectors, with the gradient of the vectors."""
    integers, scales = _rounded(weight.detach())
    return weight + (integers * scales.float() - weight).detach()
