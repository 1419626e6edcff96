"""BERT4Rec from its equations, one user at a time, in NumPy float64: the history, then the mask token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from reference.sasrec import Weights, blocks


def states(history: Sequence[int], weights: Weights, **options: Any) -> np.ndarray:
    """States [T + 1, D] after the final norm; the last one, of the mask token, scores the catalogue."""
    vectors = np.concatenate([weights["items.weight"][list(history)], weights["mask"][None]])
    return blocks(vectors, weights, causal=False, **options)
