"""Vectors as product-quantised codes (Jegou et al., 2011; for items, RecJPQ: Petrov and Macdonald, WSDM 2024, arXiv 2312.06165).

    e(x) = [C_1[code_1(x)], ..., C_m[code_m(x)]]       C_j [256, D / m], one byte a code
    score(x) = e(x) h = sum_j (C_j h_j)[code_j(x)]     a few states need 256 products a part, then m look-ups an item

The codes are fixed, the centroids learn. With m = D every channel has 256 values of its own: a byte a number, and hardly a loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.techniques.cprec.rows import Learned, Vectors

CENTROIDS = 256
_ROUNDS = 20
"""Of k-means."""
_DECODED = 8192
"""Vectors that are written out at once for scores."""
FEW_QUERIES = 8
"""States for which look-ups take less time than writing the vectors out."""


class Codes(nn.Module):
    """K vectors of D channels, m bytes each.

    Args:
        count: Vectors K.
        dim: Channels D, a multiple of m.
        parts: m.
        std: Standard deviation of the centroids at the start; codes are random then.
        int8: Whether centroids are kept as int8 (`rows`).
    """

    def __init__(self, count: int, dim: int, parts: int, std: float, int8: bool = False) -> None:
        super().__init__()
        self.parts, self.size = parts, dim // parts
        self.centroids: Vectors = Learned(torch.randn(parts * CENTROIDS, self.size) * std, int8)
        self.codes = nn.Parameter(torch.randint(CENTROIDS, (count, parts), dtype=torch.uint8), requires_grad=False)

    def pick(self, index: Tensor, width: int) -> Tensor:
        """The first ``width`` channels of some vectors, [M, w], by their places [M]."""
        return self._decoded(self.codes[index], width)

    def all(self, width: int) -> Tensor:
        """The first ``width`` channels of all vectors, [K, w]."""
        return self._decoded(self.codes, width)

    def scores(self, states: Tensor) -> Tensor:
        """Products of states [M, w] with the first channels of all vectors, [M, K]."""
        if len(states) < FEW_QUERIES:
            return self._looked_up(states)
        width = states.shape[-1]
        return torch.cat([states @ self._decoded(some, width).t() for some in self.codes.split(_DECODED)], 1)

    @torch.no_grad()
    def fill(self, vectors: Tensor) -> None:
        """Codes and centroids of vectors [K, D], by k-means on every part."""
        clusters = [k_means(part, CENTROIDS, _ROUNDS) for part in vectors.float().split(self.size, 1)]
        centroids, codes = zip(*clusters, strict=True)
        self.centroids.fill(torch.cat(centroids))
        self.codes.copy_(torch.stack(codes, 1))

    def _decoded(self, codes: Tensor, width: int) -> Tensor:
        used = -(-width // self.size)
        places = codes[:, :used].int() + CENTROIDS * torch.arange(used, device=codes.device)
        return F.embedding(places, self.centroids.all()).flatten(1)[:, :width]

    def _looked_up(self, states: Tensor) -> Tensor:
        centroids = self.centroids.all().unflatten(0, (self.parts, CENTROIDS))
        scores = states.new_zeros(states.shape[0], self.codes.shape[0])
        for j, some in enumerate(states.split(self.size, dim=-1)):
            products = some @ centroids[j, :, : some.shape[-1]].t()
            scores += products.index_select(1, self.codes[:, j].int())
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
