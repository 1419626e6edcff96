"""Scores from codes with NumPy are those of the torch table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leanrec.engine import codes
from leanrec.engine.codes import FEW_STATES, CodedItems
from leanrec.techniques.cprec.code_table import CodeTable
from leanrec.techniques.cprec.rows import freeze

ITEMS, DIM, ENDS, PARTS = 300, 12, (40, 41, 300), (12, 4, 3)


@pytest.fixture(params=[False, True], ids=["float32", "int8"])
def table(request: pytest.FixtureRequest) -> CodeTable:
    torch.manual_seed(0)
    made = CodeTable(ITEMS, DIM, ENDS, PARTS, 1.0, request.param)
    freeze(made)
    return made


def coded(table: CodeTable) -> CodedItems:
    blocks = []
    for found, centroids, scales in table.coded:
        wide = centroids.float() * (1.0 if scales is None else scales.float())
        blocks.append((found.numpy(), wide.detach().numpy()))
    return CodedItems(blocks)


@pytest.mark.parametrize("users", [1, 2, FEW_STATES, FEW_STATES + 1, 40])
@pytest.mark.parametrize("width", [DIM, 7, 3, 1])
def test_scores(table: CodeTable, users: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "VECTORS_AT_ONCE", 64)
    states = torch.randn(users, width)
    for places in (slice(0, ITEMS), slice(0, 40), slice(35, 145), slice(299, 300)):
        out = np.full((users, ITEMS + 5), 7.0, np.float32)
        coded(table).score(states.numpy(), places, out[:, places])
        expected = table.score(states).detach().numpy()[:, places]
        np.testing.assert_allclose(out[:, places], expected, rtol=1e-5, atol=1e-5)
        out[:, places] = 7.0
        assert (out == 7.0).all()


def test_vectors_of_some_items_and_of_all(table: CodeTable) -> None:
    ids = np.array([300, 1, 40, 41, 42, 2, 41])
    items = coded(table)
    expected = table.embed(torch.from_numpy(ids)).detach().numpy()
    np.testing.assert_allclose(items.vectors(ids), expected, rtol=1e-6)
    matrix = items.matrix()
    assert matrix.shape == (ITEMS + 1, DIM) and not matrix[0].any()
    np.testing.assert_allclose(matrix[ids], expected, rtol=1e-6)
    assert items.num_items == ITEMS and items.vectors(ids[:0]).shape == (0, DIM)
