"""Full-catalogue softmax losses in chunks: never [M, N] in memory, and one pass for value and gradient.

Both gradients are formed while a chunk's probabilities are still in the cache, so the backward pass is a scaling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

LOGITS_AT_ONCE = 5 * 2**19
"""Entries of one chunk of logits; 5 MB in bf16. Larger chunks leave the cache, smaller ones starve the matrix products."""

SOFT_LOGITS_AT_ONCE = 2**19
"""The same with soft targets, which hold four matrices of a chunk."""

STATES_MULTIPLE = 32
"""Rows of a chunk are a multiple of this: every other shape would have to be compiled and kept by the matrix library."""


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


class _Formed(torch.autograd.Function):
    """A loss of states, a table and what needs no gradient, whose gradients were formed in the forward pass."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_table = ctx.saved_tensors
        return d_hidden * grads[0], d_table * grads[0], *(None,) * (len(ctx.needs_input_grad) - 2)


class _SoftmaxLoss(_Formed):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, low: torch.dtype) -> Tensor:
        m, n = hidden.shape[0], table.shape[0]
        step = max(STATES_MULTIPLE, LOGITS_AT_ONCE // n // STATES_MULTIPLE * STATES_MULTIPLE)
        table_low = table.to(low)
        hidden_low = F.pad(
            hidden.to(low), (0, 0, 0, -m % STATES_MULTIPLE)
        )  # rows of zeros: few shapes, no effect on the sums
        d_hidden = torch.empty_like(hidden)
        d_table = torch.zeros_like(table)
        loss = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for start in range(0, m, step):
            h, y = hidden_low[start : start + step], targets[start : start + step]
            logits = _workspace.take("logits", (h.shape[0], n), h)
            share = _workspace.take("share", (h.shape[0], n), h)
            torch.mm(h, table_low.t(), out=logits)
            torch.softmax(logits, -1, out=share)
            real = share[: len(y)]
            picked = real.gather(1, y[:, None]).float().clamp_min(torch.finfo(torch.float32).tiny)
            loss -= picked.log().sum(dtype=torch.float64)
            d_hidden[start : start + step] = (share @ table_low)[: len(y)]
            d_table += share.t() @ h
        # the target's own term, in full precision
        d_hidden -= table[targets]
        d_table.index_add_(0, targets, hidden, alpha=-1)
        ctx.save_for_backward(d_hidden.div_(m), d_table.div_(m))
        return (loss / m).to(hidden.dtype)


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
    with torch.autocast(hidden.device.type, enabled=False):  # ``low`` decides, whatever the encoder runs in
        return cast(Tensor, _SoftmaxLoss.apply(hidden, table, targets, low))


class _SoftTargetsLoss(_Formed):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, wanted: Callable[[slice], Tensor], towards_teacher: bool
    ) -> Tensor:
        m, n = hidden.shape[0], table.shape[0]
        step = max(STATES_MULTIPLE, SOFT_LOGITS_AT_ONCE // n)
        d_hidden, d_table = torch.empty_like(hidden), torch.zeros_like(table)
        loss = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for start in range(0, m, step):
            rows = slice(start, min(start + step, m))
            h, theirs = hidden[rows], wanted(rows).float()
            ours, p, q = (_workspace.take(name, (len(h), n), hidden) for name in ("logits", "share", "soft share"))
            torch.mm(h, table.t(), out=ours)
            torch.softmax(ours, -1, out=p)
            torch.softmax(theirs, -1, out=q)
            offset = _log_sums(ours, p) - _log_sums(theirs, q)
            lead = ours.sub_(theirs)  # log p - log q = lead - offset
            if towards_teacher:
                loss += offset.sum(dtype=torch.float64) - torch.dot(q.view(-1), lead.view(-1))
                gradient = p.sub_(q)
            else:
                mean = (p * lead).sum(1)
                loss += (mean - offset).sum(dtype=torch.float64)
                gradient = lead.sub_(mean[:, None]).mul_(p)
            torch.mm(gradient, table, out=d_hidden[rows])
            d_table.addmm_(gradient.t(), h)
        ctx.save_for_backward(d_hidden.div_(m), d_table.div_(m))
        return (loss / m).to(hidden.dtype)


def _log_sums(logits: Tensor, shares: Tensor) -> Tensor:
    """log of the sum of exponents [M] of logits [M, N] whose softmax is there: the largest logit less the log of its share."""
    return logits.amax(1) - shares.amax(1).log()


def soft_targets_loss(
    hidden: Tensor, table: Tensor, wanted: Callable[[slice], Tensor], towards_teacher: bool = True
) -> Tensor:
    """Mean KL divergence of q, a teacher's softmax, and p = ``softmax(hidden table^T)``, with memory for one chunk of both.

    Args:
        hidden: States [M, w], float32.
        table: Item vectors [N, w], float32.
        wanted: The teacher's logits [R, N] of a slice of R of the M states; no gradient passes.
        towards_teacher: KL(q || p); otherwise KL(p || q).

    Returns:
        A scalar with gradients for ``hidden`` and ``table``.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        return cast(Tensor, _SoftTargetsLoss.apply(hidden, table, wanted, towards_teacher))
