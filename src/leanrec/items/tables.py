"""Item tables: the ``items`` slot of a backbone."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.core.backbone import ItemTable
from leanrec.core.evidence import Evidence
from leanrec.core.types import PAD
from leanrec.items.softmax import softmax_loss
from leanrec.items.sparse_softmax import sparse_softmax_loss
from leanrec.items.topk import top_k_of


class PlainTable(ItemTable):
    """One dense table, tied: the same vectors embed the history and score the catalogue.

    Args:
        num_items: Items N.
        dim: Channels D.
        std: Standard deviation of the normal initialisation.
    """

    def __init__(self, num_items: int, dim: int, std: float) -> None:
        super().__init__()
        self.num_items, self.dim = num_items, dim
        self.weight = nn.Parameter(torch.randn(num_items + 1, dim) * std)
        with torch.no_grad():
            self.weight[PAD] = 0.0

    @property
    def matrix(self) -> Tensor:
        return self.weight

    @torch.no_grad()
    def take(self, other: ItemTable, move: Callable[[Tensor], Tensor]) -> None:
        self.weight[1:] = move(other.embed(torch.arange(1, other.num_items + 1)))

    def embed(self, ids: Tensor, width: int | None = None) -> Tensor:
        """Vectors [..., w] of item ids [...]."""
        if torch.compiler.is_exporting():  # so that graphs of several widths share one table
            return F.embedding(ids, self.weight)[..., : width or self.dim]
        return F.embedding(ids, self.weight[:, : width or self.dim], padding_idx=PAD)

    def score(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        w = hidden.shape[-1]
        if ids is None:
            return hidden @ self.weight[1:, :w].t()
        vectors = F.embedding(ids, self.weight[:, :w], padding_idx=PAD)
        return hidden @ vectors.t() if ids.dim() == 1 else (vectors @ hidden.unsqueeze(-1)).squeeze(-1)

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return softmax_loss(hidden, self.weight[1:, : hidden.shape[-1]], targets - 1, self.loss_dtype)

    def nll_with(self, hidden: Tensor, targets: Tensor, evidence: Evidence) -> Tensor:
        return sparse_softmax_loss(hidden, self.weight[1:, : hidden.shape[-1]], targets - 1, evidence)

    def top_k(self, hidden: Tensor, k: int, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return top_k_of(hidden, self.weight[:, : hidden.shape[-1]], k, exclude)
