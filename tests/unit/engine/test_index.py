"""The approximate index finds most of the best, and says how many."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from leanrec.core.errors import ServeError
from leanrec.engine.index import Index


def test_most_of_the_best_are_found() -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((3001, 16), np.float32)
    states = rng.standard_normal((20, 12), np.float32)
    index = Index(table)
    scores = states @ table[1:, :12].T
    exact = np.argsort(-scores, axis=1)[:, :10] + 1
    assert index.recall(states, exact) > 0.8
    ids, found = index.top_k(states, 10)
    assert ids.min() >= 1 and (np.diff(found, axis=1) <= 0).all()
    np.testing.assert_allclose(found, np.take_along_axis(scores, ids - 1, 1), atol=0.05)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def blocked(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("usearch"):
            raise ImportError(name)
        return whole(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(ServeError, match=r"expected the package usearch .* pip install 'leanrec\[ann\]'"):
        Index(np.zeros((3, 2), np.float32))
