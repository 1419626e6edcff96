"""Dropout that is cheap on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LEVELS = 256
"""Drop probabilities of the fast form are multiples of 1 / _LEVELS."""


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Zero entries of ``x`` and scale up the others, so that the mean stays.

    torch draws a random number for every entry, a fifth of the time of a training step on a CPU. Here eight entries share one draw
    of 64 bits, a byte each; the probability is rounded to a multiple of 1/256 and the scale follows the rounded one.

    Args:
        x: Any shape.
        probability: Of an entry to become zero.
        training: Leaves ``x`` as it is if false.
    """
    keep = round((1 - probability) * _LEVELS)
    if not training or keep == _LEVELS:
        return x
    if x.device.type != "cpu" or keep == 0:
        return F.dropout(x, probability)
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.uint8)[: x.numel()].view(x.shape) < keep
    return x * kept.to(x.dtype).mul_(_LEVELS / keep)
