"""Search against a reference that looks at every title."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.plain import Catalog
from leanrec.server.search import TitleSearch

text = st.text(st.sampled_from("aAbBßÉé \n\t"), max_size=6)


@given(titles=st.lists(text, min_size=1, max_size=12), query=text, limit=st.integers(1, 5))
def test_it_finds_what_has_all_words(titles: list[str], query: str, limit: int) -> None:
    keys = tuple(f"k{number}" for number in range(len(titles)))
    search = TitleSearch(Catalog(keys, tuple(titles), (1,) * len(titles)))
    words = query.casefold().split()
    lines = [f"{title}\t{key}".casefold() for key, title in zip(keys, titles, strict=True)]
    expected = [row for row, line in enumerate(lines) if all(word in line for word in words)]
    assert search.find(query, limit) == expected[:limit]


def test_keys_are_found_too_and_the_popular_come_first() -> None:
    search = TitleSearch(Catalog(("1193", "2"), ("One Flew", "Two 1193 Flew"), (9, 5)))
    assert search.find("1193", 5) == [0, 1] and search.find("FLEW two", 5) == [1]
    assert search.find("", 5) == [0, 1] and search.find("  ", 1) == [0] and search.find("three", 5) == []


def test_many_items_are_found_across_blocks() -> None:
    titles = tuple(f"item {'rare' if n % 300 == 299 else 'usual'} {n}" for n in range(900))
    search = TitleSearch(Catalog(titles, titles, (1,) * len(titles)))
    assert search.find("item rare", 100) == [299, 599, 899] and search.find("RARE item", 1) == [299]
    assert search.find("item", 1000) == list(range(900)) and search.find("767", 5) == [767]
    assert search.find("usual rare", 5) == []
