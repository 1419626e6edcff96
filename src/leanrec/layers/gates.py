"""Scalars that let a residual block start as the identity."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ReZero(nn.Module):
    """``y = alpha * x`` with one learned alpha that starts at zero (Bachlechner et al. 2020, eq. 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """The branch [...] scaled."""
        return self.alpha * x
