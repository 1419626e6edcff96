"""Exact top-k over a large catalogue: int8 products screen it, and the best candidates are scored again in float32.

    w_i = s_i q_i + e_i,   h = t p + f            q_i, p in int8, s_i and t the scales
    w_i . h <= s_i t (q_i . p) + |e_i| |t p| + |w_i| |f| <= s_i (t (q_i . p) + c)
    c = max_j(|e_j| / s_j) |t p| + max_j(|w_j| / s_j) |f|

The right side needs a quarter of the bytes of the table. Where the k-th best float32 score of the candidates is not below the
bound of the best item left out, the answer is that of float32; else more candidates are taken, and in the end all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.types import PAD

WIDER = (100, 1000, 10_000)
"""Candidates beyond k and the excluded items, tried in turn."""
SLACK = 1e-5
"""Rounding of float32 sums, relative to |w| |h|."""


class Screen:
    """A table and its int8 copy.

    Args:
        table: float32 [N + 1, D] on the CPU; row 0 is padding.
    """

    @torch.no_grad()
    def __init__(self, table: Tensor) -> None:
        self.table = table
        norms = table.norm(dim=1)
        self.largest = float(norms.max())
        self.scales = (table.abs().amax(1) / 127).clamp_min(1e-30)
        self.rows = torch.empty_like(table, dtype=torch.int8)
        rounding = 0.0
        for some, out, scale in zip(table.split(65536), self.rows.split(65536), self.scales.split(65536), strict=True):
            out.copy_((some / scale[:, None]).round_())
            rounding = max(rounding, float(((some - out * scale[:, None]).norm(dim=1) / scale).max()))
        self.rounding, self.size = rounding, float((norms / self.scales)[1:].max())

    @torch.no_grad()
    def top_k(self, hidden: Tensor, k: int, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `nn.topk.top_k_of`, for states float32 [B, w]."""
        gone = [None] * len(hidden) if exclude is None else exclude
        found = [
            self._of_one(F.pad(h, (0, self.table.shape[1] - len(h))), k, out)
            for h, out in zip(hidden, gone, strict=True)
        ]
        ids, scores = (torch.stack(column) for column in zip(*found, strict=True))
        return ids, scores

    def _of_one(self, h: Tensor, k: int, gone: Tensor | None) -> tuple[Tensor, Tensor]:
        step = (h.abs().max() / 127).clamp_min(1e-30)
        p = (h / step).round_()
        near = step * p
        slack = self.rounding * near.norm() + self.size * (h - near).norm()
        products = torch.ops.aten._int_mm(p.to(torch.int8)[None], self.rows.t())[0]
        bounds = products.float().mul_(step).add_(slack).mul_(self.scales)
        bounds[PAD] = -torch.inf
        if gone is not None:
            bounds[gone] = -torch.inf
        most = SLACK * self.largest * float(h.norm())
        for more in WIDER:
            if k + more >= len(bounds):
                break
            above, candidates = bounds.topk(k + more)
            scores = (self.table[candidates] @ h).masked_fill_(above == -torch.inf, -torch.inf)
            best, at = scores.topk(k)
            if above[-1] + most <= best[-1] or above[-1] == -torch.inf:
                return candidates[at].masked_fill(best == -torch.inf, PAD), best
        scores = (self.table @ h).masked_fill_(bounds == -torch.inf, -torch.inf)
        best, at = scores.topk(k)
        return at.masked_fill(best == -torch.inf, PAD), best
