"""Search the titles and keys of a catalogue."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from leanrec.core.plain import Catalog


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
        self._starts = list(accumulate((len(line) + 1 for line in lines), initial=0))[:-1]
        self._text = "\n".join(lines) + "\n"

    def find(self, query: str, limit: int) -> list[int]:
        """Rows of at most ``limit`` items that have all words of the query; the first rows for an empty one."""
        words = sorted(set(_plain(query).split()), key=len, reverse=True)
        if not words:
            return list(range(min(limit, len(self._starts))))
        found: list[int] = []
        at = self._text.find(words[0])
        while at >= 0 and len(found) < limit:
            row = bisect_right(self._starts, at) - 1
            end = self._starts[row + 1] if row + 1 < len(self._starts) else len(self._text)
            if all(self._text.find(word, self._starts[row], end) >= 0 for word in words[1:]):
                found.append(row)
            at = self._text.find(words[0], end)
        return found


def _plain(text: str) -> str:
    return text.casefold().replace("\n", " ")
