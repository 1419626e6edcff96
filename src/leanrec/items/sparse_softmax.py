"""Full-catalogue softmax loss of scores to which evidence for few items is added, in chunks that stay in the cache.

    logits[m, i] = h_m . w_i + a_m log(1 + sum of the mass of m's entries that name i)

As in `items.softmax`, gradients are formed while a chunk's probabilities are there. Only the named entries of a chunk are touched
beside the products, so evidence of 300 items costs little beside a catalogue of thousands.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from leanrec.core.evidence import Evidence
from leanrec.items.softmax import LOGITS_AT_ONCE, STATES_MULTIPLE

_TINY = torch.finfo(torch.float32).tiny


class _SparseSoftmaxLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, ids: Tensor, mass: Tensor, gain: Tensor
    ) -> Tensor:
        m, n = hidden.shape[0], table.shape[0]
        step = max(STATES_MULTIPLE, LOGITS_AT_ONCE // n // STATES_MULTIPLE * STATES_MULTIPLE)
        d_hidden, d_table, d_mass = torch.empty_like(hidden), torch.zeros_like(table), torch.empty_like(mass)
        d_gain = torch.empty_like(gain)
        loss = torch.zeros((), dtype=torch.float64, device=hidden.device)
        summed = torch.zeros(min(step, m), n + 1, device=hidden.device)  # column 0 takes what names no item
        logits = torch.empty(min(step, m), n, device=hidden.device)
        share = torch.empty_like(logits)
        for start in range(0, m, step):
            rows = slice(start, min(start + step, m))
            count = rows.stop - start
            named, columns = ids[rows], (ids[rows] - 1).clamp_min(0)
            total = summed[:count].scatter_add_(1, named, mass[rows]).gather(1, named)
            summed[:count].scatter_(1, named, 0.0)
            part = mass[rows] / total.clamp_min(_TINY)  # of an item's mass; the parts of an item sum to 1
            logged = total.log1p()
            torch.mm(hidden[rows], table.t(), out=logits[:count])
            logits[:count].scatter_add_(1, columns, gain[rows, None] * logged * part)
            p = torch.softmax(logits[:count], -1, out=share[:count])
            wanted = targets[rows, None]
            loss -= p.gather(1, wanted).clamp_min(_TINY).log().sum(dtype=torch.float64)
            p.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=p.dtype))
            torch.mm(p, table, out=d_hidden[rows])
            d_table.addmm_(p.t(), hidden[rows])
            gradient = p.gather(1, columns)
            d_gain[rows] = (gradient * logged * part).sum(1)
            d_mass[rows] = (gradient * gain[rows, None] / (1 + total)).masked_fill_(named == 0, 0.0)
        ctx.save_for_backward(d_hidden.div_(m), d_table.div_(m), d_mass.div_(m), d_gain.div_(m))
        return (loss / m).to(hidden.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_table, d_mass, d_gain = ctx.saved_tensors
        return d_hidden * grads[0], d_table * grads[0], None, None, d_mass * grads[0], d_gain * grads[0]


def sparse_softmax_loss(hidden: Tensor, table: Tensor, targets: Tensor, evidence: Evidence) -> Tensor:
    """Mean cross-entropy of ``targets`` under the softmax of ``hidden table^T`` with additions, in float32.

    Args:
        hidden: States [M, w].
        table: Item vectors [N, w]; row i is item i + 1.
        targets: int64 [M], rows of ``table``.
        evidence: Of the M states.

    Returns:
        A scalar with gradients for ``hidden``, ``table``, and mass and gain of the evidence.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        loss = _SparseSoftmaxLoss.apply(
            hidden.float(), table.float(), targets, evidence.ids, evidence.mass.float(), evidence.gain.float()
        )
        return cast(Tensor, loss)
