"""The screen against scoring everything."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.nn import screen as module
from leanrec.nn.screen import Screen


@given(
    items=st.sampled_from([3, 50, 400, 3000]),
    width=st.sampled_from([1, 8, 16]),
    near=st.booleans(),
    gone=st.booleans(),
    seed=st.integers(0, 50),
)
@settings(max_examples=80, deadline=None)
def test_the_best_are_exact(items: int, width: int, near: bool, gone: bool, seed: int) -> None:
    torch.manual_seed(seed)
    table = torch.randn(items + 1, 16) * torch.rand(items + 1, 1)
    if near:  # scores closer than int8 can tell apart
        table = torch.randn(1, 16) + 1e-3 * table
    table[0] = 0
    hidden = torch.randn(2, width)
    exclude = torch.randint(0, items + 1, (2, 5)) if gone else None
    k = min(7, items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WIDER", (5, 40))
        ids, scores = Screen(table).top_k(hidden, k, exclude)
    whole = hidden @ table[:, :width].t()
    whole[:, 0] = -torch.inf
    if exclude is not None:
        whole.scatter_(1, exclude, -torch.inf)
    torch.testing.assert_close(scores, whole.topk(k).values, atol=1e-5, rtol=1e-5)
    kept = scores > -torch.inf
    torch.testing.assert_close(whole.gather(1, ids)[kept], scores[kept], atol=1e-5, rtol=1e-5)
    assert (ids[~kept] == 0).all()


def test_a_state_of_zeros() -> None:
    ids, scores = Screen(torch.randn(300, 4)).top_k(torch.zeros(1, 4), 3)
    assert (scores == 0).all() and (ids > 0).all() and len(set(ids[0].tolist())) == 3
