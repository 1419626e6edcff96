"""What is evaluated is what is served: the engine puts every target at the place that `evaluate` says, on the same route."""

from __future__ import annotations

import numpy as np
import pytest

from leanrec.data.batches import questions
from leanrec.engine.batches import padded
from leanrec.tasks import evaluate_run
from unit.tasks.routed import BUDGET, Trained

K = 20


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("name", ["run", "plain"])
def test_the_engine_ranks_as_evaluate_does(name: str, exclude_seen: bool, trained: Trained) -> None:
    run, budget = getattr(trained, name), BUDGET if name == "run" else None
    expected = evaluate_run(run, trained.store, "test", exclude_seen, budget)
    asked = questions(trained.store, run.split(trained.store), "test")
    starts = trained.store.offsets[asked.users]
    histories = [np.asarray(trained.store.items[a:b], np.int64) for a, b in zip(starts, asked.position, strict=True)]
    ids, _, routes = run.engine().recommend_ids(histories, K, padded(histories) if exclude_seen else None, budget)
    assert routes == expected.ranking.routes
    ranks = [
        row.tolist().index(item) + 1 if item in row else 0 for row, item in zip(ids, expected.targets, strict=True)
    ]
    np.testing.assert_array_equal(ranks, np.where(expected.ranking.ranks <= K, expected.ranking.ranks, 0))
    assert 0 < np.count_nonzero(ranks) < len(ranks)
