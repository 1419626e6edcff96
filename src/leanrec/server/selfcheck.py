"""Try a model before it is served: when a server starts, and before a reload replaces the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from leanrec.core.errors import ArtifactError, LeanrecError, one_line
from leanrec.core.plain import Route
from leanrec.engine.answers import Recommendation
from leanrec.engine.batches import Histories
from leanrec.engine.engine import Engine
from leanrec.engine.events import Event
from leanrec.engine.runner import StepRunner
from leanrec.engine.sessions import remembered

_CLOSE = 1e-3
"""Largest difference between the scores of a user alone and among others, relative to the largest score or 1."""
_STEPPED = 0.1
"""Largest difference between the scores of an event computed from memories and of the whole history, relative to the largest score.
With int8 weights the two graphs round apart and differ by a hundredth; the memories of another model would be off by far more."""
_LONGEST = 2048
"""Longest history that is tried."""


def self_check(engine: Engine, path: object) -> None:
    """Answer for histories of several lengths at several budgets, and run every route, also by single steps.

    This also warms up what requests will run.

    Raises:
        ArtifactError: An answer is missing, not finite or not in order, or changes with who else is asked for, or an event that
            is computed from memories has another answer than the whole history.
    """
    try:
        _answers(engine)
        for route in engine.flops:
            _route(engine, route)
    except LeanrecError as error:
        raise ArtifactError(f"{path} fails its self-check: {error}; train or export it again") from error
    except Exception as error:  # weights and graphs that do not fit each other may raise anything
        got = f"{type(error).__name__} ({one_line(error)})"
        raise ArtifactError(f"{path} fails its self-check: expected answers, got {got}; export it again") from error


def _answers(engine: Engine) -> None:
    keys, k = engine.catalog.keys, min(10, engine.num_items)
    longest = min(engine.runner.max_length, _LONGEST)
    histories = [
        [_event(engine, keys[(at * 7 + length) % len(keys)], at) for at in range(length)] for length in {1, 2, longest}
    ]
    for budget in {None, *(engine.budgets or ())}:
        whole = engine.recommend(histories, k, budget=budget)
        alone = [engine.recommend([history], k, budget=budget)[0] for history in histories]
        for one, other in zip(whole, alone, strict=True):
            _check(one, k)
            _equal(one, other)


def _route(engine: Engine, route: Route) -> None:
    """Run a route on a whole history, and if it can take steps, on all but the newest event and then on that."""
    runner, k = engine.runner, min(10, engine.num_items)
    steps = min(3, runner.max_length)
    items = np.arange(1, steps + 1)[None] % engine.num_items + 1
    history = Histories(items, np.array([steps]), {name: np.arange(steps)[None] for name in engine.reads})
    _, scores = runner.best(runner.states(history, route), k, None, None)
    if not np.isfinite(scores).all():
        raise _failed(f"finite scores on the route {route}, got others")
    stepping = cast(StepRunner, runner) if hasattr(runner, "step") else None
    layout = stepping.layout(route) if stepping else None
    if stepping is None or layout is None or steps < 2:
        return
    older = Histories(items[:, :-1], np.array([steps - 1]))
    _, memories = remembered(stepping, layout, older, route)
    at = np.array([steps - 1])
    states, rows = stepping.step(items[:, -1], at, memories.read(at), route)
    memories.write(at, rows)
    _, stepped = runner.best(states, k, None, None)
    if not np.abs(stepped - scores).max() <= _STEPPED * np.abs(scores).max():
        raise _failed(f"the same scores from memories as from the whole history on the route {route}, got others")


def _event(engine: Engine, key: str, at: int) -> str | Event:
    return Event(key, at) if engine.reads else key


def _check(answer: Recommendation, k: int) -> None:
    scores = [item.score for item in answer.items]
    if len(scores) != k or not all(map(math.isfinite, scores)):
        raise _failed(f"{k} items with finite scores on the route {answer.route}, got {len(scores)}")
    if scores != sorted(scores, reverse=True):
        raise _failed(f"items by descending score on the route {answer.route}, got another order")


def _equal(one: Recommendation, other: Recommendation) -> None:
    if one.route != other.route or not _near(_scores(one), _scores(other)):
        raise _failed("the same answer for a user alone and among others, got two")


def _near(first: Sequence[float], second: Sequence[float]) -> bool:
    size = max(1.0, *map(abs, first))
    return len(first) == len(second) and all(abs(a - b) <= _CLOSE * size for a, b in zip(first, second, strict=True))


def _scores(answer: Recommendation) -> Sequence[float]:
    return [item.score for item in answer.items]


def _failed(what: str) -> ArtifactError:
    return ArtifactError(f"expected {what}")
