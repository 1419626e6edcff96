"""Architectures that are the most probable ones of what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from leanrec.layers.cells import Architecture

_LEVELS = 4096
"""Distinct costs kept apart; finer ones are rounded up."""


def front(log_p: np.ndarray, costs: Sequence[float], names: Sequence[str]) -> Iterator[Architecture]:
    """Architectures by falling probability, each cheaper than the one before; the first is the most probable of all.

    Exact: the most probable architecture whose summed cost is at most some number is among them, for every number. Built edge by
    edge; of those that cost the same only the best is kept.

    Args:
        log_p: Log-probabilities [E, O] of the operations of every edge.
        costs: Cost of the O operations on an edge.
        names: Their names.
    """
    most = max(costs) * len(log_p)
    scale = 1.0 if most <= _LEVELS or all(float(cost).is_integer() for cost in costs) else most / _LEVELS
    steps = [float(np.ceil(cost / scale - 1e-9)) for cost in costs]
    best: dict[float, tuple[float, tuple[int, ...]]] = {0.0: (0.0, ())}
    for edge in log_p:
        grown: dict[float, tuple[float, tuple[int, ...]]] = {}
        for cost, (score, chosen) in best.items():
            for operation, more in enumerate(edge.tolist()):
                key, total = cost + steps[operation], score + more
                if key not in grown or total > grown[key][0]:
                    grown[key] = total, (*chosen, operation)
        best = _undominated(grown)
    for cost in sorted(best, reverse=True):
        yield tuple(names[operation] for operation in best[cost][1])


def _undominated(
    found: dict[float, tuple[float, tuple[int, ...]]],
) -> dict[float, tuple[float, tuple[int, ...]]]:
    """Those that are more probable than everything that costs no more."""
    kept: dict[float, tuple[float, tuple[int, ...]]] = {}
    score = -np.inf
    for cost in sorted(found):
        if found[cost][0] > score:
            score = found[cost][0]
            kept[cost] = found[cost]
    return kept
