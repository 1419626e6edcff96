"""Item vectors from quantised codes, in blocks by popularity: rarer items have fewer bytes.

One block is RecJPQ's table; several are CpRec's idea with bytes in the place of dimensions. Every block has centroids of its own,
so the many rare items do not decide how the few frequent ones are rounded. Codes of a trained model come from k-means on its item
vectors; from scratch they are random (RecJPQ's ablation; its SVD codes need the log, which a table does not see).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from leanrec.core.backbone import Coded, ItemTable
from leanrec.items.softmax import softmax_loss
from leanrec.items.topk import top_k_by
from leanrec.techniques.cprec.blocks import look_up
from leanrec.techniques.cprec.codes import CENTROIDS, Codes

_ROWS = 64
"""States whose scores of the whole catalogue are held at once."""


class CodeTable(ItemTable):
    """A tied table of codes and centroids.

    Args:
        num_items: Items N.
        dim: Channels D, a multiple of all ``codes``.
        ends: Last item of every block, the last one N.
        codes: Bytes an item of every block.
        std: Standard deviation of the centroids at the start.
        int8: Whether centroids are kept as int8 (`rows`).
    """

    def __init__(
        self, num_items: int, dim: int, ends: Sequence[int], codes: Sequence[int], std: float, int8: bool = False
    ) -> None:
        super().__init__()
        self.num_items, self.dim, self.ends = num_items, dim, tuple(ends)
        counts = [end - start for start, end in zip((0, *ends[:-1]), ends, strict=True)]
        blocks = (Codes(count, dim, parts, std, int8) for count, parts in zip(counts, codes, strict=True))
        self.blocks: Sequence[Codes] = nn.ModuleList(blocks)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def coded(self) -> Sequence[Coded]:
        return [Coded(block.codes, *block.centroids.stored()) for block in self.blocks]

    @torch.no_grad()
    def take(self, other: ItemTable, move: Callable[[Tensor], Tensor]) -> None:
        self.approximate(move(other.embed(torch.arange(1, other.num_items + 1))))

    def embed(self, ids: Tensor, width: int | None = None) -> Tensor:
        channels = width or self.dim
        return look_up(ids, self.ends, channels, lambda block, at: self.blocks[block].pick(at, channels))

    def score(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        if ids is None:
            return torch.cat([self._all(few) for few in hidden.split(_ROWS)])
        vectors = self.embed(ids, hidden.shape[-1])
        return hidden @ vectors.t() if ids.dim() == 1 else (vectors @ hidden.unsqueeze(-1)).squeeze(-1)

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        vectors = torch.cat([block.all(hidden.shape[-1]) for block in self.blocks])
        return softmax_loss(hidden, vectors, targets - 1, self.loss_dtype)

    @torch.no_grad()
    def top_k(self, hidden: Tensor, k: int, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return top_k_by(self._all, hidden, k, exclude, _ROWS)

    @torch.no_grad()
    def approximate(self, dense: Tensor) -> None:
        """Codes and centroids of item vectors [N, D]."""
        for block, start, end in zip(self.blocks, (0, *self.ends[:-1]), self.ends, strict=True):
            block.fill(dense[start:end])

    def _all(self, hidden: Tensor) -> Tensor:
        """Scores [M, N]."""
        return torch.cat([block.scores(hidden) for block in self.blocks], 1)


def code_bytes(ends: Sequence[int], codes: Sequence[int], dim: int, int8: bool) -> int:
    """Bytes of a table: m_b an item, and 256 centroids a part, float32, or int8 with a scale each."""
    starts = (0, *ends[:-1])
    items = sum((end - start) * parts for start, end, parts in zip(starts, ends, codes, strict=True))
    return items + sum(CENTROIDS * (dim + 2 * parts if int8 else 4 * dim) for parts in codes)
