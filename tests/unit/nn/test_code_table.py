"""Quantised item tables against their vectors written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.nn.code_table import CodeTable, k_means

ITEMS, DIM, PARTS = 60, 8, 4


def table() -> CodeTable:
    torch.manual_seed(0)
    return CodeTable(ITEMS, DIM, PARTS, 0.5)


def dense(items: CodeTable) -> Tensor:
    """Vectors [N, D]."""
    centroids = items.centroids.all().unflatten(0, (PARTS, -1))
    rows = [torch.cat([centroids[j, code] for j, code in enumerate(codes)]) for codes in items.codes.tolist()]
    return torch.stack(rows).detach()


@pytest.mark.parametrize("width", [3, 4, DIM])
def test_vectors_scores_and_best_items_are_those_of_the_codes(width: int) -> None:
    items = table()
    vectors, hidden = dense(items)[:, :width], torch.randn(130, width)
    ids = torch.tensor([[0, 1, 60], [7, 0, 3]])
    expected = torch.cat([torch.zeros(1, width), vectors])
    torch.testing.assert_close(items.embed(ids, width).detach(), expected[ids])
    scores = hidden @ vectors.t()
    torch.testing.assert_close(items.score(hidden).detach(), scores, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(items.score(hidden, ids[0, 1:]).detach(), scores[:, [0, 59]], atol=1e-5, rtol=1e-5)
    exclude = torch.randint(0, ITEMS + 1, (130, 9))
    gone = torch.cat([torch.full((130, 1), -torch.inf), scores], 1).scatter(1, exclude, -torch.inf)
    found, best = items.top_k(hidden, 10, exclude)
    torch.testing.assert_close(best, gone.topk(10).values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gone.gather(1, found), best, atol=1e-5, rtol=1e-5)


def test_the_loss_is_that_of_the_full_softmax_and_reaches_the_centroids() -> None:
    items, hidden, targets = table(), torch.randn(40, DIM), torch.randint(1, ITEMS + 1, (40,))
    expected = torch.nn.functional.cross_entropy(items.score(hidden), targets - 1)
    loss = items.nll(hidden, targets)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    ours, theirs = (torch.autograd.grad(value, items.centroids.weight)[0] for value in (loss, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_codes_of_a_trained_table_give_it_back_where_there_are_enough_centroids() -> None:
    items, vectors = table(), torch.randn(ITEMS, DIM)
    items.approximate(vectors)  # 256 centroids for 60 items
    torch.testing.assert_close(dense(items), vectors, atol=1e-5, rtol=0)


def test_k_means_finds_the_clusters_there_are() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    vectors = centres.repeat_interleave(20, 0) + 0.1 * torch.randn(60, 2)
    found, nearest = k_means(vectors, 3, 10)
    assert [len(set(part.tolist())) for part in nearest.split(20)] == [1, 1, 1]
    torch.testing.assert_close(found[nearest], centres.repeat_interleave(20, 0), atol=0.2, rtol=0)


def test_parts_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        CodeTable(10, 12, 5, 0.1)
    assert str(caught.value) == (
        "expected technique.cprec.codes to divide the 12 channels of the item table, got 5; 4 would work"
    )


def test_a_byte_an_item_and_part_is_stored() -> None:
    items = CodeTable(1000, 64, 8, 0.1)
    assert items.codes.dtype == torch.uint8 and items.codes.nbytes == 8000
    assert sum(p.numel() for p in items.parameters() if p.requires_grad) == 256 * 64
