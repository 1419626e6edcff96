"""Exact top-k for a few users: a product with an int8 copy of the table screens it, and the best candidates are scored in float32.

    w_i = s_i q_i + e_i,   h = p + f        q_i in int8, s_i its scale, p in bfloat16
    w_i . h <= s_i q_i . p + |e_i| |p| + |w_i| |f| <= s_i (q_i . p + c)
    c = max_j(|e_j| / s_j) |p| + max_j(|w_j| / s_j) |f|

The right side needs a quarter of the bytes of the table. Where the k-th best float32 score of the candidates is not below the
bound of the best item left out, the answer is that of float32; else more candidates are taken, and in the end all.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.types import PAD
from leanrec.items.topk import ROUNDING, top_k_of

WIDER = (100, 1000, 10_000)
"""Candidates beyond k and the excluded items, tried in turn."""
_SLACK = 2e-5
"""Rounding of two float32 sums, relative to |w| |h|."""
_LANES = 16
"""Channels come in multiples of it: the product reads so many at once."""
_TRIED = 10
"""States on which the screen is compared with a product in float32, and items asked for."""


class Screen:
    """A table and its int8 copy.

    Args:
        table: float32 [N + 1, D] on the CPU; row 0 is padding.
    """

    @torch.no_grad()
    def __init__(self, table: Tensor) -> None:
        self.table, self.padding = table, -table.shape[1] % _LANES
        norms = table.norm(dim=1)
        self.largest = float(norms.max())
        self.scales = (table.abs().amax(1) / 127).clamp_min(1e-30)
        self.rows = torch.zeros(len(table), table.shape[1] + self.padding, dtype=torch.int8)
        self.ones = torch.ones(len(table), dtype=torch.bfloat16)
        rounding = 0.0
        for some, out, scale in zip(table.split(65536), self.rows.split(65536), self.scales.split(65536), strict=True):
            rounded = (some / scale[:, None]).round_()
            out[:, : table.shape[1]] = rounded
            rounding = max(rounding, float(((some - rounded * scale[:, None]).norm(dim=1) / scale).max()))
        self.rounding, self.size = rounding, float((norms / self.scales)[1:].max())

    @torch.no_grad()
    def top_k(self, hidden: Tensor, k: int, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `items.topk.top_k_of`, for states float32 [B, w]."""
        hidden = F.pad(hidden, (0, self.table.shape[1] - hidden.shape[1]))
        low = F.pad(hidden, (0, self.padding)).bfloat16()
        near = low[:, : hidden.shape[1]].float()
        products = torch.ops.aten._weight_int8pack_mm(low, self.rows, self.ones).float()
        slack = self.rounding * near.norm(dim=1) + self.size * (hidden - near).norm(dim=1)
        bounds = products.add_(products.abs(), alpha=2 * ROUNDING).add_(slack[:, None]).mul_(self.scales)
        bounds[:, PAD] = -torch.inf
        if exclude is not None:
            bounds.scatter_(1, exclude, -torch.inf)
        found = [self._of_one(h, bound, k) for h, bound in zip(hidden, bounds, strict=True)]
        ids, scores = (torch.stack(column) for column in zip(*found, strict=True))
        return ids, scores

    def _of_one(self, h: Tensor, bounds: Tensor, k: int) -> tuple[Tensor, Tensor]:
        most = _SLACK * self.largest * float(h.norm())
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


@torch.inference_mode()
def screen_of(table: Tensor) -> Screen | None:
    """A screen, if the best of one user are found in less time by it here; measured once, by states that resemble items."""
    screen, k = Screen(table), min(_TRIED, len(table) - 1)
    states = table[1 :: max(1, len(table) // _TRIED)][:_TRIED]
    seconds = [float("inf"), float("inf")]
    for state in states.split(1):
        for which, find in enumerate((screen.top_k, lambda h, k: top_k_of(h, table, k))):
            started = time.perf_counter()
            find(state, k)
            seconds[which] = min(seconds[which], time.perf_counter() - started)
    return screen if seconds[0] < seconds[1] else None
