"""One engine, many threads, one answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from conformance.test_models import ready
from leanrec.core.recommender import Recommender
from leanrec.core.types import Catalog, Route
from leanrec.serve.engine import Engine
from leanrec.serve.torch_runner import TorchRunner
from toys import catalog

ITEMS = 40


def test_answers_do_not_depend_on_who_else_asks(tmp_path: Path) -> None:
    model = ready("sasrec", ("canet",))
    engine = Engine(TorchRunner(model), catalog(ITEMS), dict.fromkeys(model.all_routes(), 1), 1)
    rng = np.random.default_rng(0)
    requests = [[rng.integers(1, ITEMS + 1, rng.integers(1, 12)) for _ in range(rng.integers(1, 6))] for _ in range(60)]
    expected = [engine.recommend_ids(histories, 5) for histories in requests]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda histories: engine.recommend_ids(histories, 5), requests))
    for (ids, scores, routes), (other_ids, other_scores, other_routes) in zip(expected, found, strict=True):
        assert routes == other_routes
        np.testing.assert_array_equal(ids, other_ids)
        np.testing.assert_allclose(scores, other_scores, atol=1e-6)


@pytest.mark.parametrize("users", [1, 7])
def test_a_user_is_answered_alone_as_among_others(users: int) -> None:
    model: Recommender = ready("nextitnet", ("skiprec",))
    items: Catalog = catalog(ITEMS)
    engine = Engine(TorchRunner(model), items, dict.fromkeys([*model.all_routes(), Route()], 1), 1)
    rng = np.random.default_rng(users)
    histories = [rng.integers(1, ITEMS + 1, rng.integers(1, 10)) for _ in range(users)]
    ids, scores, _ = engine.recommend_ids(histories, 5)
    for row, history in enumerate(histories):
        alone, alone_scores, _ = engine.recommend_ids([history], 5)
        np.testing.assert_array_equal(alone[0], ids[row])
        np.testing.assert_allclose(alone_scores[0], scores[row], atol=1e-5)
