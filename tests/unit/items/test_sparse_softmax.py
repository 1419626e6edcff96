"""The softmax loss with evidence, in chunks, against torch's own over dense scores."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.evidence import Evidence
from leanrec.items import sparse_softmax
from leanrec.items.sparse_softmax import sparse_softmax_loss
from leanrec.items.tables import PlainTable


@given(st.integers(1, 40), st.integers(2, 30), st.integers(1, 9), st.integers(1, 20), st.integers(1, 200))
def test_value_and_gradients_for_every_chunking(m: int, n: int, w: int, entries: int, elements: int) -> None:
    hidden, table = torch.randn(m, w, requires_grad=True), torch.randn(n, w, requires_grad=True)
    targets, ids = torch.randint(0, n, (m,)), torch.randint(0, n + 1, (m, entries))
    mass = (3 * torch.rand(m, entries) * (ids > 0)).requires_grad_()
    gain = (torch.rand(m) + 0.5).requires_grad_()
    wrt = (hidden, table, mass, gain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_softmax, "LOGITS_AT_ONCE", elements)
        patch.setattr(sparse_softmax, "STATES_MULTIPLE", 1)
        loss = sparse_softmax_loss(hidden, table, targets, Evidence(ids, mass, gain))
        ours = [loss.detach(), *torch.autograd.grad(3 * loss, wrt)]
    summed = torch.zeros(m, n + 1).scatter_add(1, ids, mass)[:, 1:]
    exact = F.cross_entropy(hidden @ table.t() + gain[:, None] * summed.log1p(), targets)
    theirs = [exact.detach(), *torch.autograd.grad(3 * exact, wrt)]
    theirs[3] = theirs[3].masked_fill(ids == 0, 0.0)
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-6)


def test_a_table_without_a_loss_of_its_own_for_it_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    table, hidden = PlainTable(20, 4, 1.0), torch.randn(11, 4, requires_grad=True)
    ids, targets = torch.randint(0, 21, (11, 6)), torch.randint(1, 21, (11,))
    evidence = Evidence(ids, torch.rand(11, 6) * (ids > 0), torch.rand(11))
    monkeypatch.setattr("leanrec.core.backbone.SCORES_AT_ONCE", 60)
    usual = super(PlainTable, table).nll_with(hidden, targets, evidence)
    fused = table.nll_with(hidden, targets, evidence)
    torch.testing.assert_close(usual, fused)
    torch.testing.assert_close(
        torch.autograd.grad(usual, (hidden, table.weight)), torch.autograd.grad(fused, (hidden, table.weight))
    )
