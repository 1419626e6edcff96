"""Items as product-quantised codes, scored with NumPy.

The codes stay codes: for a few states every item takes one look-up a part, in the products of that part's centroids; more states
share vectors that are written out some hundreds at a time, and forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

_CENTROIDS = 256
FEW_STATES = 3
"""States for which look-ups take less time than writing vectors out."""
VECTORS_AT_ONCE = 512
"""Vectors written out at once."""
_UNCHECKED: Literal["wrap"] = "wrap"
"""How `take` treats indices out of range, of which there are none: it writes without a copy, and in less time than with "clip"."""


class CodedItems:
    """Items 1 to N in blocks, one after the other.

    Args:
        blocks: Of every block the codes uint8 [K, m] and the centroids float32 [m * 256, D / m].
    """

    def __init__(self, blocks: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self.blocks = [_Block(codes, centroids) for codes, centroids in blocks]
        self._starts = np.cumsum([0, *(block.count for block in self.blocks)])
        self.num_items = int(self._starts[-1])

    def score(self, states: np.ndarray, places: slice, out: np.ndarray) -> None:
        """Write products of states [B, w] with the first channels of M items, those at ``places`` from 0, into ``out`` [B, M]."""
        for block, start in zip(self.blocks, self._starts, strict=False):
            first, last = max(places.start - start, 0), min(places.stop - start, block.count)
            if first < last:
                at = start - places.start
                block.score(states, slice(first, last), out[:, at + first : at + last])

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """float32 [M, D] of some items, ids int64 [M] from 1."""
        found = np.empty((len(ids), self.blocks[0].dim), np.float32)
        which = np.searchsorted(self._starts, ids - 1, side="right") - 1
        for number, block in enumerate(self.blocks):
            here = which == number
            found[here] = block.decoded(ids[here] - 1 - self._starts[number])
        return found

    def matrix(self) -> np.ndarray:
        """float32 [N + 1, D], row i that of item i; row 0 is padding."""
        found = np.zeros((self.num_items + 1, self.blocks[0].dim), np.float32)
        for first in range(1, len(found), VECTORS_AT_ONCE):
            ids = np.arange(first, min(first + VECTORS_AT_ONCE, len(found)))
            found[ids] = self.vectors(ids)
        return found


class _Block:
    """Items with as many bytes each."""

    def __init__(self, codes: np.ndarray, centroids: np.ndarray) -> None:
        (self.count, self.parts), self.size = codes.shape, centroids.shape[1]
        self.dim, self.centroids = self.parts * self.size, centroids
        self.by_part = np.array(codes.T, order="C")  # [m, K]: a look-up reads one part of all items
        self.firsts = np.arange(0, self.parts * _CENTROIDS, _CENTROIDS, dtype=np.intp)

    def score(self, states: np.ndarray, places: slice, out: np.ndarray) -> None:
        """As `CodedItems.score`, for this block's items."""
        if len(states) <= FEW_STATES:
            for state, row in zip(states, out, strict=True):
                self._look_up(state, places, row)
            return
        for first in range(places.start, places.stop, VECTORS_AT_ONCE):
            some = slice(first, min(first + VECTORS_AT_ONCE, places.stop))
            at = slice(some.start - places.start, some.stop - places.start)
            np.matmul(states, self.decoded(some)[:, : states.shape[1]].T, out=out[:, at])

    def decoded(self, places: slice | np.ndarray) -> np.ndarray:
        """float32 [M, D] of the items at some places."""
        rows = np.array(self.by_part[:, places].T, order="C") + self.firsts
        return self.centroids.take(rows, axis=0, mode=_UNCHECKED).reshape(len(rows), self.dim)

    def _look_up(self, state: np.ndarray, places: slice, out: np.ndarray) -> None:
        used = -(-len(state) // self.size)
        padded = np.pad(state, (0, used * self.size - len(state))).reshape(used, self.size, 1)
        products = (self.centroids[: used * _CENTROIDS].reshape(used, _CENTROIDS, self.size) @ padded)[..., 0]
        codes = self.by_part[:, places]
        found = np.empty(len(out), np.float32)
        products[0].take(codes[0], out=out, mode=_UNCHECKED)
        for part in range(1, used):
            products[part].take(codes[part], out=found, mode=_UNCHECKED)
            out += found
