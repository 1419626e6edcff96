"""Items in blocks of falling rank under one softmax over all of them.

    e(x) = E_1[x]  or  E_b[x] P_b,     score(x | h) = e(x) h

The input side of CpRec's blocks, tied to the output, without its two-level softmax: a trained table is approximated by its factors
alone (Baevski and Auli, 2019, tie them in the same way under an adaptive softmax).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from leanrec.core.backbone import ItemTable
from leanrec.items.softmax import softmax_loss
from leanrec.items.topk import top_k_by
from leanrec.techniques.cprec.block_table import Factors

_ROWS = 64
"""States whose scores of the whole catalogue are held at once."""


class LowRankTable(ItemTable):
    """A tied table of `Factors`.

    Args:
        num_items: Items N.
        ends: Last item of every block, the last one N.
        dims: Dimensions of every block, the first one D.
        std: Standard deviation of the vectors at the start.
        int8: Whether item vectors are kept as int8 (`rows`).
    """

    def __init__(
        self, num_items: int, ends: Sequence[int], dims: Sequence[int], std: float, int8: bool = False
    ) -> None:
        super().__init__()
        self.num_items, self.dim = num_items, dims[0]
        self.factors = Factors(ends, dims, std, int8)

    @torch.no_grad()
    def take(self, other: ItemTable, move: Callable[[Tensor], Tensor]) -> None:
        self.approximate(move(other.embed(torch.arange(1, other.num_items + 1))))

    def embed(self, ids: Tensor, width: int | None = None) -> Tensor:
        return self.factors.vectors(ids, width or self.dim)

    def score(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """Scores as of any table; states are projected to the rank of every block, which costs less than projecting its items."""
        if ids is None:
            return torch.cat([self.factors.scores(block, hidden) for block in range(len(self.factors.ends))], 1)
        vectors = self.embed(ids, hidden.shape[-1])
        return hidden @ vectors.t() if ids.dim() == 1 else (vectors @ hidden.unsqueeze(-1)).squeeze(-1)

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return softmax_loss(hidden, self.factors.dense(hidden.shape[-1]), targets - 1, self.loss_dtype)

    @torch.no_grad()
    def top_k(self, hidden: Tensor, k: int, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return top_k_by(self.score, hidden, k, exclude, _ROWS)

    def approximate(self, dense: Tensor) -> None:
        """Take the best factors of item vectors [N, D]."""
        self.factors.approximate(dense)
