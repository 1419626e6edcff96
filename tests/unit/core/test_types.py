from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.errors import ConfigError
from leanrec.core.types import FULL, Batch, Catalog, Route
from toys import batch_of

sizes = st.none() | st.integers(0, 10**6)
subsets = st.none() | st.sets(st.integers(0, 200)).map(lambda chosen: tuple(sorted(chosen)))
routes = st.builds(Route, sizes, sizes, subsets)


@given(routes)
def test_a_route_reads_back(route: Route) -> None:
    assert Route.parse(str(route)) == route


@given(routes, routes)
def test_no_two_routes_look_alike(first: Route, second: Route) -> None:
    assert (str(first) == str(second)) == (first == second)


def test_names_of_routes() -> None:
    assert str(FULL) == "full"
    assert str(Route(32, 64, (0, 1))) == "e32-w64-l0.1"
    assert str(Route(width=64)) == "w64"
    assert str(Route(layers=())) == "l"
    assert {Route(emb=3): "as a key"}[Route(emb=3)] == "as a key"


@pytest.mark.parametrize(
    "text", ["", "w", "x3", "w3-e4", "e3w4", "-", "e3-", "-w4", "l0..1", "l01", "fullw3", "w٣", "full\n"]
)
def test_a_text_that_is_no_route(text: str) -> None:
    message = f"expected a route such as 'full' or 'e32-w64-l0.1', got {text!r}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Route.parse(text)


def test_a_batch() -> None:
    batch = batch_of([[1, 2, 3], [4]])
    assert batch.size == 2
    assert batch.last.tolist() == [2, 0]


def test_scored_steps_are_those_with_a_target() -> None:
    targets = torch.tensor([[2, 3, 4], [5, 0, 0]])
    index, wanted = Batch(torch.ones(2, 3, dtype=torch.int64), torch.tensor([3, 1]), targets).scored()
    assert index.tolist() == [0, 1, 2, 3]
    assert wanted.tolist() == [2, 3, 4, 5]
    with pytest.raises(ValueError, match="this batch has no targets"):
        batch_of([[1]]).scored()


@given(st.data())
def test_rows_are_cut_to_the_longest_among_them(data: st.DataObject) -> None:
    histories = data.draw(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=5))
    chosen = data.draw(st.lists(st.integers(0, len(histories) - 1), min_size=1, max_size=6))
    whole = batch_of(histories, steps=8)
    whole = Batch(whole.items, whole.lengths, whole.items + 10, torch.arange(len(histories)) + 100)
    part = whole.rows(torch.tensor(chosen))
    expected = batch_of([histories[row] for row in chosen])
    assert torch.equal(part.items, expected.items)
    assert torch.equal(part.lengths, expected.lengths)
    assert part.targets is not None and torch.equal(part.targets, expected.items + 10)
    assert part.users is not None and part.users.tolist() == [row + 100 for row in chosen]


def test_rows_and_moves_keep_what_is_not_there() -> None:
    part = batch_of([[1, 2], [3]]).rows(torch.tensor([1]))
    assert part.items.tolist() == [[3]]
    assert part.targets is None and part.users is None
    moved = Batch(*[torch.ones(1, 1, dtype=torch.int64)] * 4).to(torch.device("meta"))
    assert all(part is not None and part.is_meta for part in (moved.items, moved.lengths, moved.targets, moved.users))
    assert batch_of([[1]]).to(torch.device("meta")).targets is None


def test_a_catalogue_has_a_length() -> None:
    assert len(Catalog(("a", "b"), ("A", "B"), (3, 1))) == 2
