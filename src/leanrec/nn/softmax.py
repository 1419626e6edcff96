"""The full-catalogue softmax loss in chunks: never [M, N] in memory, and one pass for value and gradient.

Both gradients are formed while a chunk's probabilities are still in the cache, so the backward pass is a scaling.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2 * 2**20
"""Entries of one chunk of logits; 4 MB in bf16. Larger chunks leave the cache, smaller ones starve the matrix products."""


class _Workspace:
    """Buffers that outlive a step: mapping and unmapping logits every step costs more than computing them."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, name: str, shape: tuple[int, int], like: Tensor) -> Tensor:
        key = (name, like.dtype, like.device)
        count = shape[0] * shape[1]
        held = self._held.get(key)
        if held is None or held.numel() < count:
            held = self._held[key] = torch.empty(count, dtype=like.dtype, device=like.device)
        return held[:count].view(shape)


_workspace = _Workspace()


class _SoftmaxLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, low: torch.dtype) -> Tensor:
        m, n = hidden.shape[0], table.shape[0]
        rows = max(1, min(m, CHUNK_ELEMENTS // n))
        table_low, hidden_low = table.to(low), hidden.to(low)
        d_hidden = torch.empty_like(hidden)
        d_table = torch.zeros_like(table)
        loss = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for start in range(0, m, rows):
            h, y = hidden_low[start : start + rows], targets[start : start + rows]
            logits = _workspace.take("logits", (h.shape[0], n), h)
            share = _workspace.take("share", (h.shape[0], n), h)
            torch.mm(h, table_low.t(), out=logits)
            torch.softmax(logits, -1, out=share)
            picked = share.gather(1, y[:, None]).float().clamp_min(torch.finfo(torch.float32).tiny)
            loss -= picked.log().sum(dtype=torch.float64)
            d_hidden[start : start + rows] = share @ table_low
            d_table += share.t() @ h
        # the target's own term, in full precision
        d_hidden -= table[targets]
        d_table.index_add_(0, targets, hidden, alpha=-1)
        ctx.save_for_backward(d_hidden.div_(m), d_table.div_(m))
        return (loss / m).to(hidden.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_hidden, d_table = ctx.saved_tensors
        return d_hidden * grads[0], d_table * grads[0], None, None


def softmax_loss(hidden: Tensor, table: Tensor, targets: Tensor, low: torch.dtype = torch.float32) -> Tensor:
    """Mean cross-entropy of ``targets`` under ``softmax(hidden table^T)``, with memory for one chunk of logits.

    Args:
        hidden: States [M, w], float32.
        table: Item vectors [N, w], float32.
        targets: int64 [M], rows of ``table``.
        low: Type of the three matrix products and of the probabilities. bfloat16 keeps 8 bits of each probability,
            an unbiased rounding far below the noise of a batch; the target's own term stays in float32.

    Returns:
        A scalar with gradients for ``hidden`` and ``table``.
    """
    return _SoftmaxLoss.apply(hidden, table, targets, low)  # pyright: ignore[reportReturnType]


def faster_dtype(num_items: int, dim: int, device: torch.device, rounds: int = 3) -> torch.dtype:
    """The type in which the loss runs faster on this machine, by measurement: float32 or bfloat16.

    Args:
        num_items: Items N.
        dim: Channels D.
        device: Where the loss will run.
        rounds: Interleaved timings of each type; the best one counts. bfloat16 must win by a tenth.
    """
    rows = max(64, min(512, CHUNK_ELEMENTS // num_items))
    hidden = torch.ones(rows, dim, device=device)
    table = torch.ones(num_items, dim, device=device)
    targets = torch.zeros(rows, dtype=torch.int64, device=device)
    seconds = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for round_ in range(rounds + 1):
        for dtype in seconds:
            started = time.perf_counter()
            float(softmax_loss(hidden, table, targets, dtype))
            if round_:  # the first round warms up
                seconds[dtype] = min(seconds[dtype], time.perf_counter() - started)
    return torch.bfloat16 if seconds[torch.bfloat16] < 0.9 * seconds[torch.float32] else torch.float32
