"""The router's graph, for histories of any length."""

from __future__ import annotations

import pytest
import torch

from conformance.test_models import ready
from leanrec.export.program import ROUTER, frozen, parts, traced
from toys import random_batch

ITEMS = 40


@pytest.mark.parametrize("technique", ["canet", "skiprec"])
def test_a_router_is_one_graph_for_every_length(technique: str) -> None:
    model = frozen(ready("sasrec", (technique,)))
    part = next(part for part in parts(model) if part.name == ROUTER)
    graph = traced(part, model).module()
    for lengths in ([1], [2, 1], [2, 4, 3]):  # no step that two events have and one has not
        batch = random_batch(ITEMS, lengths)
        torch.testing.assert_close(
            graph(batch.items, batch.lengths), part.module(batch.items, batch.lengths), atol=1e-5, rtol=1e-5
        )
