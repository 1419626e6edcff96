"""The screen against scoring everything."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.items import screen as module
from leanrec.items.screen import Screen, screen_of


@given(
    items=st.sampled_from([3, 50, 400, 3000]),
    dim=st.sampled_from([16, 20]),
    width=st.sampled_from([1, 8, 16]),
    near=st.booleans(),
    gone=st.booleans(),
    seed=st.integers(0, 50),
)
@settings(max_examples=80, deadline=None)
def test_the_best_are_exact(items: int, dim: int, width: int, near: bool, gone: bool, seed: int) -> None:
    torch.manual_seed(seed)
    table = torch.randn(items + 1, dim) * torch.rand(items + 1, 1)
    if near:  # scores closer than int8 can tell apart
        table = torch.randn(1, dim) + 1e-3 * table
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


@pytest.mark.parametrize(("seconds", "kept"), [((1.0, 2.0), True), ((2.0, 1.0), False)])
def test_a_screen_is_kept_where_it_takes_less_time(
    seconds: tuple[float, float], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.accumulate(itertools.cycle([0.0, seconds[0], 0.0, seconds[1]]))
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))
    assert (screen_of(torch.randn(300, 4)) is not None) is kept


def test_a_table_of_fewer_items_than_states_are_tried_with() -> None:
    screen_of(torch.randn(3, 4))
