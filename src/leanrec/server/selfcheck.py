"""A model is tried before it is served: on opening, and before it replaces another one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from leanrec.core.errors import ArtifactError
from leanrec.serve.answers import Recommendation
from leanrec.serve.engine import Engine

CLOSE = 1e-3
"""Largest difference of a score, over the largest magnitude or 1, between a user alone and among others."""


def self_check(engine: Engine, path: object) -> None:
    """Answer for histories of several lengths and budgets, and run every route; all that is run first is also warm afterwards.

    Raises:
        ArtifactError: An answer is missing, not finite or not in order, or changes with who else is asked for.
    """
    keys, longest, k = engine.catalog.keys, engine.runner.max_length, min(10, engine.num_items)
    histories = [[keys[(at * 7 + length) % len(keys)] for at in range(length)] for length in {1, 2, longest}]
    for budget in {None, *(engine.budgets or ())}:
        whole = engine.recommend(histories, k, budget=budget)
        alone = [engine.recommend([history], k, budget=budget)[0] for history in histories]
        for one, other in zip(whole, alone, strict=True):
            _check(one, k, path)
            _equal(one, other, path)
    items = np.ones((1, min(2, longest)), np.int64)
    for route in engine.flops:
        states = engine.runner.states(items, np.array([items.shape[1]]), route)
        _, scores = engine.runner.best(states, k, None, None)
        if not np.isfinite(scores).all():
            raise _failed(path, f"finite scores on the route {route}, got others")


def _check(answer: Recommendation, k: int, path: object) -> None:
    scores = [item.score for item in answer.items]
    if len(scores) != k or not all(map(math.isfinite, scores)):
        raise _failed(path, f"{k} items with finite scores on the route {answer.route}, got {len(scores)}")
    if scores != sorted(scores, reverse=True):
        raise _failed(path, f"items by descending score on the route {answer.route}, got another order")


def _equal(one: Recommendation, other: Recommendation, path: object) -> None:
    first, second = _scores(one), _scores(other)
    size = max(1.0, *map(abs, first))
    if one.route != other.route or any(abs(a - b) > CLOSE * size for a, b in zip(first, second, strict=True)):
        raise _failed(path, "the same answer for a user alone and among others, got two")


def _scores(answer: Recommendation) -> Sequence[float]:
    return [item.score for item in answer.items]


def _failed(path: object, what: str) -> ArtifactError:
    return ArtifactError(f"{path} fails its self-check: expected {what}; train or export it again")
