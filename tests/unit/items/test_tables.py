from __future__ import annotations

import torch
import torch.nn.functional as F

from leanrec.core.types import PAD
from leanrec.items.tables import PlainTable


def test_rows_start_as_asked_and_padding_at_zero() -> None:
    table = PlainTable(2000, 16, 0.5)
    assert (table.num_items, table.dim) == (2000, 16)
    assert not table.weight[PAD].any()
    assert 0.48 < float(table.weight.detach()[1:].std()) < 0.52


def test_embed_reads_a_prefix() -> None:
    table = PlainTable(5, 4, 1.0)
    ids = torch.tensor([[1, 5, PAD]])
    assert torch.equal(table.embed(ids), table.weight[ids])
    assert torch.equal(table.embed(ids, 2), table.weight[ids][..., :2])


def test_score_of_all_of_shared_and_of_own_items() -> None:
    table = PlainTable(5, 4, 1.0)
    for width in (4, 2):
        hidden = torch.randn(3, width)
        whole = table.score(hidden)
        torch.testing.assert_close(whole, torch.einsum("mw,nw->mn", hidden, table.weight[1:, :width]))
        shared = torch.tensor([4, 2])
        torch.testing.assert_close(table.score(hidden, shared), whole[:, shared - 1])
        own = torch.tensor([[1], [5], [3]])
        torch.testing.assert_close(table.score(hidden, own), whole.gather(1, own - 1))


def test_nll_is_the_cross_entropy_of_its_scores_in_the_asked_type() -> None:
    table = PlainTable(50, 8, 1.0)
    hidden, targets = torch.randn(20, 8), torch.randint(1, 51, (20,))
    exact = F.cross_entropy(table.score(hidden), targets - 1)
    torch.testing.assert_close(table.nll(hidden, targets), exact)
    table.loss_dtype = torch.bfloat16
    low = table.nll(hidden, targets)
    assert low != exact
    torch.testing.assert_close(low, exact, rtol=0.02, atol=0)


def test_nll_reads_a_prefix() -> None:
    table = PlainTable(50, 8, 1.0)
    hidden, targets = torch.randn(20, 3), torch.randint(1, 51, (20,))
    torch.testing.assert_close(table.nll(hidden, targets), F.cross_entropy(table.score(hidden), targets - 1))


def test_padding_gets_no_gradient() -> None:
    table = PlainTable(5, 4, 1.0)
    hidden = table.embed(torch.tensor([1, PAD]))
    loss = table.nll(hidden, torch.tensor([2, 3])) + table.score(hidden, torch.tensor([[PAD], [1]])).sum()
    loss.backward()
    assert table.weight.grad is not None
    assert not table.weight.grad[PAD].any()


def test_top_k_uses_the_width_of_the_states() -> None:
    table = PlainTable(100, 4, 1.0)
    hidden = torch.randn(3, 2)
    ids, scores = table.top_k(hidden, 5, torch.tensor([[1], [2], [PAD]]))
    whole = table.score(hidden)
    whole[0, 0] = whole[1, 1] = -torch.inf
    best = whole.topk(5)
    assert torch.equal(ids, best.indices + 1)
    torch.testing.assert_close(scores, best.values)
