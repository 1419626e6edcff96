"""An approximate index over item vectors: the one inexact way to the best items, whose recall is printed where it is offered."""

from __future__ import annotations

from typing import Any

import numpy as np

from leanrec.core.errors import ServeError


class Index:
    """A graph index (HNSW) by inner product.

    Args:
        table: float32 [N + 1, D]; row 0 is padding.
        connections: Neighbours of an item; more find better and need more memory.
        effort: Candidates looked at for an answer.
        threads: To build it with; all cores by default.

    Raises:
        ServeError: The package is not installed.
    """

    def __init__(self, table: np.ndarray, connections: int = 16, effort: int = 128, threads: int = 0) -> None:
        try:
            from usearch.index import Index as Graph
        except ImportError as error:
            raise ServeError(
                "expected the package usearch for an approximate index, got none; pip install 'leanrec[ann]', or take the "
                "exact ten best"
            ) from error
        self.num_items, self.dim = len(table) - 1, table.shape[1]
        self.graph: Any = Graph(
            ndim=self.dim, metric="ip", dtype="f16", connectivity=connections, expansion_search=effort
        )
        self.graph.add(np.arange(1, len(table)), table[1:], threads=threads)

    def top_k(self, states: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """About the k best items of states [B, w]: ids int64 and scores float32 [B, k], best first."""
        full = np.pad(states, ((0, 0), (0, self.dim - states.shape[1]))).astype(np.float32)
        found = self.graph.search(full, k)
        ids = np.atleast_2d(found.keys).astype(np.int64)
        return ids, (1 - np.atleast_2d(found.distances)).astype(np.float32)

    def recall(self, states: np.ndarray, exact: np.ndarray) -> float:
        """Mean share of the exact best ids [B, k] of states [B, w] that are found."""
        found, _ = self.top_k(states, exact.shape[1])
        return float(np.mean([len({*a} & {*b}) / len(b) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]))
