"""Search the titles and keys of a catalogue."""

from __future__ import annotations

from leanrec.core.plain import Catalog

_BLOCK = 256
"""Items in a block of text. Most blocks lack a word of a query, and are skipped without looking at their items."""


class TitleSearch:
    """Finds items by words of their titles or keys, the most popular first. Exact, by one pass over the text.

    Args:
        catalog: Items by descending popularity.
    """

    def __init__(self, catalog: Catalog) -> None:
        lines = [
            _plain(title if title == key else f"{title}\t{key}")
            for key, title in zip(catalog.keys, catalog.titles, strict=True)
        ]
        self._items = len(lines)
        self._blocks = ["\n".join(lines[at : at + _BLOCK]) for at in range(0, len(lines), _BLOCK)]

    def find(self, query: str, limit: int) -> list[int]:
        """Rows of at most ``limit`` items that have all words of the query; the first rows for an empty one."""
        words = sorted(set(_plain(query).split()), key=len, reverse=True)
        if not words:
            return list(range(min(limit, self._items)))
        found: list[int] = []
        for number, block in enumerate(self._blocks):
            if not all(word in block for word in words):
                continue
            for row, line in enumerate(block.split("\n"), number * _BLOCK):
                if all(word in line for word in words):
                    found.append(row)
                    if len(found) == limit:
                        return found
        return found


def _plain(text: str) -> str:
    return text.casefold().replace("\n", " ")
