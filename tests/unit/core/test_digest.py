from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.digest import catalog_digest

keys = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=4)


@given(keys, keys)
def test_other_keys_give_another_digest(first: list[str], second: list[str]) -> None:
    assert (catalog_digest(first) == catalog_digest(second)) == (first == second)


def test_where_one_key_ends_matters() -> None:
    assert catalog_digest(["ab", "c"]) != catalog_digest(["a", "bc"]) != catalog_digest(["abc"])
