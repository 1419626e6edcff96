"""Quantised codes and tables of them against their vectors written out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from leanrec.techniques.cprec.code_table import CodeTable, code_bytes
from leanrec.techniques.cprec.codes import CENTROIDS, FEW_QUERIES, Codes, k_means
from leanrec.techniques.cprec.rows import freeze

ITEMS, DIM = 60, 8
BLOCKS = [((ITEMS,), (4,)), ((10, 25, ITEMS), (8, 4, 2))]


def table(ends: tuple[int, ...] = (ITEMS,), codes: tuple[int, ...] = (4,), int8: bool = False) -> CodeTable:
    torch.manual_seed(0)
    return CodeTable(ITEMS, DIM, ends, codes, 0.5, int8)


def vectors_of(block: Codes) -> Tensor:
    centroids = block.centroids.all().unflatten(0, (block.parts, -1))
    return torch.stack(
        [torch.cat([centroids[j, code] for j, code in enumerate(row)]) for row in block.codes.tolist()]
    ).detach()


def dense(items: CodeTable) -> Tensor:
    """Vectors [N, D]."""
    return torch.cat([vectors_of(block) for block in items.blocks])


@pytest.mark.parametrize("width", [3, 4, DIM])
@pytest.mark.parametrize("rows", [2, 130])
@pytest.mark.parametrize(("ends", "codes"), BLOCKS)
def test_vectors_scores_and_best_items_are_those_of_the_codes(
    ends: tuple[int, ...], codes: tuple[int, ...], rows: int, width: int
) -> None:
    items = table(ends, codes)
    vectors, hidden = dense(items)[:, :width], torch.randn(rows, width)
    ids = torch.tensor([[0, 1, 60], [11, 0, 26]])
    expected = torch.cat([torch.zeros(1, width), vectors])
    torch.testing.assert_close(items.embed(ids, width).detach(), expected[ids])
    scores = hidden @ vectors.t()
    torch.testing.assert_close(items.score(hidden).detach(), scores, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(items.score(hidden, ids[0, 1:]).detach(), scores[:, [0, 59]], atol=1e-5, rtol=1e-5)
    exclude = torch.randint(0, ITEMS + 1, (rows, 9))
    gone = torch.cat([torch.full((rows, 1), -torch.inf), scores], 1).scatter(1, exclude, -torch.inf)
    found, best = items.top_k(hidden, 10, exclude)
    torch.testing.assert_close(best, gone.topk(10).values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gone.gather(1, found), best, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("ends", "codes"), BLOCKS)
def test_the_loss_is_that_of_the_full_softmax_and_reaches_the_centroids(
    ends: tuple[int, ...], codes: tuple[int, ...]
) -> None:
    items, hidden, targets = table(ends, codes), torch.randn(40, DIM), torch.randint(1, ITEMS + 1, (40,))
    expected = torch.nn.functional.cross_entropy(items.score(hidden), targets - 1)
    loss = items.nll(hidden, targets)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    weights = [block.centroids.weight for block in items.blocks]
    for ours, theirs in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_looked_up_scores_are_those_of_vectors_written_out() -> None:
    block, states = table().blocks[0], torch.randn(FEW_QUERIES, DIM)
    alone = torch.cat([block.scores(state) for state in states.split(1)])
    torch.testing.assert_close(block.scores(states), alone, atol=1e-5, rtol=1e-5)


def test_codes_of_a_trained_table_give_it_back_where_there_are_enough_centroids() -> None:
    items, vectors = table((20, ITEMS), (8, 4)), torch.randn(ITEMS, DIM)
    items.approximate(vectors)  # 256 centroids for 60 items
    torch.testing.assert_close(dense(items), vectors, atol=1e-5, rtol=0)


def test_rare_items_do_not_decide_how_popular_ones_are_rounded() -> None:
    vectors = torch.randn(3000, DIM, generator=torch.Generator().manual_seed(1))
    whole = CodeTable(3000, DIM, (3000,), (2,), 0.5)
    blocks = CodeTable(3000, DIM, (300, 3000), (2, 2), 0.5)
    whole.approximate(vectors)
    blocks.approximate(vectors)
    errors = [(dense(items)[:300] - vectors[:300]).pow(2).mean() for items in (whole, blocks)]
    assert errors[1] < 0.5 * errors[0]


def test_k_means_finds_the_clusters_there_are() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    vectors = centres.repeat_interleave(20, 0) + 0.1 * torch.randn(60, 2)
    found, nearest = k_means(vectors, 3, 10)
    assert [len(set(part.tolist())) for part in nearest.split(20)] == [1, 1, 1]
    torch.testing.assert_close(found[nearest], centres.repeat_interleave(20, 0), atol=0.2, rtol=0)


@given(st.sampled_from([(4,), (8, 2), (8, 4, 1)]), st.booleans())
def test_bytes_are_counted_as_they_are_stored(codes: tuple[int, ...], int8: bool) -> None:
    ends = tuple(ITEMS * (block + 1) // len(codes) for block in range(len(codes)))
    items = table(ends, codes, int8)
    freeze(items)
    stored = sum(weight.nbytes for weight in items.state_dict().values())
    assert stored == code_bytes(ends, codes, DIM, int8)
    assert (
        items.blocks[0].codes.shape == (ends[0], codes[0])
        and items.blocks[0].centroids.shape[0] == codes[0] * CENTROIDS
    )
