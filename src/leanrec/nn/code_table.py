"""Item vectors from product-quantised codes: RecJPQ (Petrov and Macdonald, WSDM 2024, arXiv 2312.06165), after Jegou et al. (2011).

    e(x) = [C_1[code_1(x)], ..., C_m[code_m(x)]]       C_j [256, D / m], one byte a code
    score(x) = sum_j (C_j h_j)[code_j(x)]              so scoring needs 256 products a part, then m look-ups an item

The codes are fixed, the centroids learn. Codes of a trained model come from k-means on the parts of its item vectors; from scratch
they are random (the paper's ablation; its SVD codes need the log, which a table does not see).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.core.backbone import ItemTable
from leanrec.core.errors import ConfigError
from leanrec.core.types import PAD
from leanrec.nn.softmax import softmax_loss
from leanrec.nn.topk import best_of

CENTROIDS = 256
ROUNDS = 20
"""Of k-means."""
ROWS = 64
"""States whose scores of the whole catalogue are held at once."""


class CodeTable(ItemTable):
    """A tied table of codes and centroids.

    Args:
        num_items: Items N.
        dim: Channels D.
        parts: m, bytes an item.
        std: Standard deviation of the centroids at the start.

    Raises:
        ConfigError: D does not divide by m.
    """

    codes: Tensor

    def __init__(self, num_items: int, dim: int, parts: int, std: float) -> None:
        super().__init__()
        if dim % parts:
            works = max(p for p in range(1, parts) if dim % p == 0)
            raise ConfigError(
                f"expected technique.cprec.codes to divide the {dim} channels of the item table, got {parts}; {works} would work"
            )
        self.num_items, self.dim, self.parts = num_items, dim, parts
        self.centroids = nn.Parameter(torch.randn(parts, CENTROIDS, dim // parts) * std)
        self.register_buffer("codes", torch.randint(CENTROIDS, (num_items, parts), dtype=torch.uint8))

    def embed(self, ids: Tensor, width: int | None = None) -> Tensor:
        """See `ItemTable.embed`."""
        vectors = self._vectors(self.codes[ids.clamp_min(1) - 1], width or self.dim)
        return vectors * (ids != PAD).unsqueeze(-1)

    def score(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """See `ItemTable.score`."""
        if ids is None:
            if torch.compiler.is_exporting():
                return self._all(hidden)
            return torch.cat([self._all(few) for few in hidden.split(ROWS)])
        vectors = self.embed(ids, hidden.shape[-1])
        return hidden @ vectors.t() if ids.dim() == 1 else (vectors @ hidden.unsqueeze(-1)).squeeze(-1)

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """See `ItemTable.nll`."""
        return softmax_loss(hidden, self._vectors(self.codes, hidden.shape[-1]), targets - 1, self.loss_dtype)

    @torch.no_grad()
    def top_k(self, hidden: Tensor, k: int, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `ItemTable.top_k`."""
        gone = [None] * -(-len(hidden) // ROWS) if exclude is None else exclude.split(ROWS)
        found = [best_of(self._all(few), k, left_out) for few, left_out in zip(hidden.split(ROWS), gone, strict=True)]
        ids, scores = (torch.cat(column) for column in zip(*found, strict=True))
        return ids, scores

    @torch.no_grad()
    def approximate(self, dense: Tensor) -> None:
        """Codes and centroids of item vectors [N, D], by k-means on every part."""
        for part, vectors in enumerate(dense.unflatten(1, (self.parts, -1)).unbind(1)):
            self.centroids[part], found = k_means(vectors.float(), CENTROIDS, ROUNDS)
            self.codes[:, part] = found.to(torch.uint8)

    def _vectors(self, codes: Tensor, width: int) -> Tensor:
        """Vectors [..., w] of codes [..., m]."""
        used = -(-width // (self.dim // self.parts))
        parts = [F.embedding(codes[..., j].long(), self.centroids[j]) for j in range(used)]
        return torch.cat(parts, -1)[..., :width]

    def _all(self, hidden: Tensor) -> Tensor:
        """Scores [M, N]."""
        size = self.dim // self.parts
        scores = hidden.new_zeros(hidden.shape[0], self.num_items)
        for j, states in enumerate(hidden.split(size, dim=-1)):
            products = states @ self.centroids[j, :, : states.shape[-1]].t()
            scores += products.index_select(1, self.codes[:, j].long())
        return scores


def k_means(vectors: Tensor, count: int, rounds: int) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from evenly spread rows: centroids [K, d] and the nearest one of every vector [N, d], int64 [N].

    A centroid without vectors stays where it is. Fewer vectors than centroids leave the last ones unused.
    """
    start = torch.linspace(0, len(vectors) - 1, count).long()
    centroids = vectors[start].clone()
    nearest = torch.zeros(len(vectors), dtype=torch.int64)
    for _ in range(rounds):
        nearest = torch.cat([torch.cdist(some, centroids).argmin(1) for some in vectors.split(8192)])
        sums = torch.zeros_like(centroids).index_add_(0, nearest, vectors)
        counts = torch.bincount(nearest, minlength=count)[:, None]
        centroids = torch.where(counts > 0, sums / counts.clamp_min(1), centroids)
    return centroids, nearest
