"""Where products in bfloat16 are faster than in float32, decided by facts: what the processor has, and how large the products are.

Nothing is timed: on a busy machine a measurement may say this today and that tomorrow, and the same command would train another
model.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

NATIVE = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
"""Instructions for bfloat16 products, as `torch.cpu.get_capabilities` names those of x86 and ARM."""
DENSE = 64
"""Arithmetic intensity, in multiplications for each number read or written, from which products in bfloat16 make training faster.

SASRec with 64 channels has 32 and trains more slowly in bfloat16; NextItNet with 64 channels has 96 and takes half the time, as do
layers of 128 channels (decision 2).
"""


@cache
def native(device: str) -> bool:
    """Whether a device ("cpu", "cuda") multiplies bfloat16 with instructions of its own."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in NATIVE)


def dense(layers: nn.Module) -> bool:
    """Whether the arithmetic intensity of these layers' products is at least `DENSE`."""
    weights = [p for p in layers.parameters() if p.dim() > 1]
    moved = sum(sum(sorted(p.shape)[-2:]) for p in weights)  # a convolution reads its inputs once, not once a tap
    return sum(p.numel() for p in weights) >= DENSE * moved > 0
