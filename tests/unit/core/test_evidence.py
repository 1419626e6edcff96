"""Evidence against dense sums: what items get, at given items, and nothing for items that no entry names."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from leanrec.core.evidence import Evidence

ITEMS = 9


def some(users: int, entries: int, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, ITEMS + 1, (users, entries), generator=generator)
    mass = torch.rand(users, entries, generator=generator) * (ids > 0)
    return Evidence(ids, mass, torch.rand(users, generator=generator) + 0.5)


def dense(evidence: Evidence) -> Tensor:
    """What all items get, [M, N], entry by entry."""
    total = torch.zeros(len(evidence.ids), ITEMS + 1)
    for user, (ids, mass) in enumerate(zip(evidence.ids.tolist(), evidence.mass, strict=True)):
        for item, more in zip(ids, mass, strict=True):
            total[user, item] += more
    return evidence.gain[:, None] * total[:, 1:].log1p()


@given(st.integers(1, 5), st.integers(1, 30), st.integers(0, 10_000))
def test_additions_are_the_dense_sum_and_name_an_item_once(users: int, entries: int, seed: int) -> None:
    evidence = some(users, entries, seed)
    added = evidence.additions()
    torch.testing.assert_close(added.onto(torch.zeros(users, ITEMS)), dense(evidence))
    for row, values in zip(added.ids.tolist(), added.values, strict=True):
        named = [item for item in row if item]
        assert len(set(named)) == len(named)
        assert all(float(value) == 0 for item, value in zip(row, values, strict=True) if not item)


@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 12), st.booleans(), st.integers(0, 10_000))
def test_what_given_items_get(users: int, entries: int, asked: int, shared: bool, seed: int) -> None:
    evidence = some(users, entries, seed)
    ids = torch.randint(1, ITEMS + 1, (asked,) if shared else (users, asked))
    wanted = dense(evidence).gather(1, ids.expand(users, asked) - 1)
    torch.testing.assert_close(evidence.at(ids), wanted)
