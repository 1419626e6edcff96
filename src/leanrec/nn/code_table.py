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
from leanrec.nn.rows import Learned, Vectors
from leanrec.nn.softmax import softmax_loss
from leanrec.nn.topk import top_k_by

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
        int8: Whether centroids are kept as int8 (`nn.rows`).

    Raises:
        ConfigError: D does not divide by m.
    """

    def __init__(self, num_items: int, dim: int, parts: int, std: float, int8: bool = False) -> None:
        super().__init__()
        if dim % parts:
            works = max(p for p in range(1, parts) if dim % p == 0)
            raise ConfigError(
                f"expected technique.cprec.codes to divide the {dim} channels of the item table, got {parts}; {works} would work"
            )
        self.num_items, self.dim, self.parts = num_items, dim, parts
        self.centroids: Vectors = Learned(torch.randn(parts * CENTROIDS, dim // parts) * std, int8)
        self.codes = nn.Parameter(torch.randint(CENTROIDS, (num_items, parts), dtype=torch.uint8), requires_grad=False)

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
        return top_k_by(self._all, hidden, k, exclude, ROWS)

    @torch.no_grad()
    def approximate(self, dense: Tensor) -> None:
        """Codes and centroids of item vectors [N, D], by k-means on every part."""
        clusters = [
            k_means(vectors.float(), CENTROIDS, ROUNDS) for vectors in dense.unflatten(1, (self.parts, -1)).unbind(1)
        ]
        centroids, codes = zip(*clusters, strict=True)
        self.centroids.fill(torch.cat(centroids))
        self.codes.copy_(torch.stack(codes, 1))

    def _vectors(self, codes: Tensor, width: int) -> Tensor:
        """Vectors [..., w] of codes [..., m]."""
        used = -(-width // (self.dim // self.parts))
        centroids = self.centroids.all().unflatten(0, (self.parts, CENTROIDS))
        parts = [F.embedding(codes[..., j].long(), centroids[j]) for j in range(used)]
        return torch.cat(parts, -1)[..., :width]

    def _all(self, hidden: Tensor) -> Tensor:
        """Scores [M, N]."""
        size, centroids = self.dim // self.parts, self.centroids.all().unflatten(0, (self.parts, CENTROIDS))
        scores = hidden.new_zeros(hidden.shape[0], self.num_items)
        for j, states in enumerate(hidden.split(size, dim=-1)):
            products = states @ centroids[j, :, : states.shape[-1]].t()
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
