from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from leanrec.core.types import PAD
from leanrec.items import bfloat16, topk
from leanrec.items.topk import RUN, top_k_of

sizes = st.one_of(
    st.integers(1, 2 * RUN + 3), st.sampled_from([m * RUN + d for m in (3, 5, 12) for d in (-2, -1, 0, 1)])
)


def expected(hidden: Tensor, table: Tensor, k: int, exclude: Tensor | None) -> Tensor:
    """The k best scores, by sorting all of them."""
    scores = hidden @ table.t()
    if exclude is not None:
        scores.scatter_(1, exclude, -torch.inf)
    scores[:, PAD] = -torch.inf
    return scores[:, 1:].topk(k).values


def check(hidden: Tensor, table: Tensor, k: int, exclude: Tensor | None) -> None:
    ids, scores = top_k_of(hidden, table, k, exclude)
    assert ids.shape == scores.shape == (len(hidden), k)
    torch.testing.assert_close(scores, expected(hidden, table, k, exclude), rtol=1e-5, atol=1e-5)
    found = ids != PAD
    assert torch.equal(found, scores > -torch.inf)
    assert ((ids >= 0) & (ids < len(table))).all()
    own = (hidden.unsqueeze(1) * table[ids]).sum(-1)
    torch.testing.assert_close(own[found], scores[found], rtol=1e-5, atol=1e-5)
    for row, gone in zip(ids.tolist(), [[]] * len(ids) if exclude is None else exclude.tolist(), strict=True):
        real = [item for item in row if item != PAD]
        assert len(set(real)) == len(real)
        assert not set(real) & set(gone)


@given(st.data(), sizes, st.integers(1, 40), st.integers(1, 3000), st.booleans())
def test_equals_sorting_the_catalogue(data: st.DataObject, items: int, users: int, elements: int, ties: bool) -> None:
    k = data.draw(st.integers(1, min(items, 20)))
    torch.manual_seed(data.draw(st.integers(0, 9)))
    hidden, table = torch.randn(users, 3), torch.randn(items + 1, 3)
    if ties:
        hidden, table = hidden.round(), table.round()
    exclude = None
    if data.draw(st.booleans()):
        exclude = torch.randint(0, items + 1, (users, data.draw(st.integers(1, 2 * items))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "SCORES_PER_CHUNK", elements)
        patch.setattr(bfloat16, "native", lambda device: False)
        check(hidden, table, k, exclude)


@given(st.data(), st.sampled_from([0, 1, RUN - 1, 5 * RUN]), st.integers(1, 20), st.booleans())
def test_the_bfloat16_screen_changes_no_answer(data: st.DataObject, more: int, users: int, ties: bool) -> None:
    k = data.draw(st.integers(1, 4))
    rows = RUN * (k + topk.SCREENS[0][0] + 2) + more
    torch.manual_seed(data.draw(st.integers(0, 9)))
    hidden, table = torch.randn(users, 8), torch.randn(rows, 8)
    if ties:  # near ties: far below the rounding of bfloat16
        table = 1 + table * 1e-4
    exclude = torch.randint(0, rows, (users, data.draw(st.integers(1, 3 * rows)))) if data.draw(st.booleans()) else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bfloat16, "native", lambda device: True)
        patch.setattr(topk, "FEWEST_ROWS", 1)
        patch.setattr(topk, "FEWEST_ITEMS", 1)
        check(hidden, table, k, exclude)


def test_the_screen_takes_a_user_for_whom_nearly_every_item_is_left_out() -> None:
    rows = RUN * (topk.SCREENS[0][0] + 3) + 1  # the last run is mostly padding
    hidden, table = torch.randn(2, 8), torch.randn(rows, 8)
    exclude = torch.arange(2, rows).expand(2, -1)
    ids, scores, _ = topk.screened_top_k(hidden, table, table.bfloat16(), 1, exclude, topk.SCREENS[0])
    assert ids.tolist() == [[1], [1]] and torch.isfinite(scores).all()


def test_the_screen_is_sure_of_clear_cases_and_doubts_close_ones() -> None:
    hidden, table = torch.randn(8, 16), torch.randn(RUN * (topk.SCREENS[0][0] + 12), 16)
    *_, certain = topk.screened_top_k(hidden, table, table.bfloat16(), 2, None, topk.SCREENS[0])
    assert certain.any()
    close = 1 + table * 1e-5
    *_, certain = topk.screened_top_k(torch.ones(8, 16), close, close.bfloat16(), 2, None, topk.SCREENS[0])
    assert not certain.any()


def test_products_of_the_screen_have_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program is compiled and kept for every shape; batches of a server have every size."""
    monkeypatch.setattr(bfloat16, "native", lambda device: True)
    monkeypatch.setattr(topk, "SCORES_PER_CHUNK", 40 * topk.FEWEST_ITEMS)
    product, shapes = torch.mm, set()

    def watched(left: Tensor, right: Tensor, **more: Tensor) -> Tensor:
        if left.dtype is torch.bfloat16:
            shapes.add(len(left))
        return product(left, right, **more)

    monkeypatch.setattr(torch, "mm", watched)
    hidden, table = torch.randn(100, 4), torch.randn(topk.FEWEST_ITEMS, 4)
    for users in range(topk.FEWEST_ROWS, 101):
        check(hidden[:users], table, 3, None)
    assert shapes == {16, 32}


def test_padding_is_not_returned_even_when_it_would_score_best() -> None:
    table = -torch.ones(5, 2)
    table[PAD] = 0
    ids, scores = top_k_of(torch.ones(1, 2), table, 4)
    assert sorted(ids[0].tolist()) == [1, 2, 3, 4]
    assert scores.tolist() == [[-2.0] * 4]


@pytest.mark.parametrize("items", [5, 1000])
def test_fewer_than_k_left(items: int) -> None:
    hidden, table = torch.randn(2, 3), torch.randn(items + 1, 3)
    exclude = torch.arange(1, items - 1).expand(2, -1)
    ids, scores = top_k_of(hidden, table, 4, exclude)
    assert {*ids[0, :2].tolist()} == {items - 1, items}
    assert ids[:, 2:].tolist() == [[PAD, PAD]] * 2
    assert (scores[:, 2:] == -torch.inf).all()


def test_the_whole_catalogue_in_order() -> None:
    hidden, table = torch.randn(3, 4), torch.randn(71, 4)
    ids, scores = top_k_of(hidden, table, 70)
    assert torch.equal(ids.sort().values, torch.arange(1, 71).expand(3, -1))
    assert torch.equal(scores, scores.sort(descending=True).values)
