"""From item keys to ids, with errors that help."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from leanrec.core.errors import ServeError, UnknownItemError
from leanrec.core.plain import Catalog

SEARCHED = 20_000
"""Most popular keys that are searched for one that resembles an unknown key."""


class Keys:
    """The item keys of a catalogue.

    Args:
        catalog: Its items.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.ids = {key: i for i, key in enumerate(catalog.keys, start=1)}

    def read(self, histories: Sequence[Sequence[str]]) -> tuple[list[list[int]], list[list[str]]]:
        """Ids of the known keys, and the unknown keys, each once, of every history.

        Raises:
            ServeError: A history is no list or empty.
            UnknownItemError: It has no known key.
        """
        known: list[list[int]] = []
        unknown: list[list[str]] = []
        for number, history in enumerate(histories, start=1):
            where = f" in history {number} of {len(histories)}" if len(histories) > 1 else ""
            if isinstance(history, str):
                raise ServeError(
                    f"expected a list of item keys, got the text {short(history)}{where}; put it in a list"
                )
            if not history:
                raise ServeError(f"expected at least one item key, got an empty history{where}")
            found = [self.ids[key] for key in history if key in self.ids]
            known.append(found)
            missing = len(found) < len(history)
            unknown.append([key for key in dict.fromkeys(history) if key not in self.ids] if missing else [])
            if not found:
                raise UnknownItemError(
                    f"expected at least one known item key, got {self._resembling(unknown[-1])}{where}"
                )
        return known, unknown

    def some(self, keys: Collection[str]) -> set[int]:
        """Ids of those keys that the catalogue has."""
        return {self.ids[key] for key in keys if key in self.ids}

    def allowed(self, allow: Collection[str]) -> set[int]:
        """Ids of the only items that may be recommended.

        Raises:
            UnknownItemError: None of the keys is known.
        """
        known = self.some(allow)
        if not known:
            got = self._resembling(list(allow)) if allow else "none"
            raise UnknownItemError(f"expected at least one known item key in allow, got {got}")
        return known

    def _resembling(self, unknown: list[str]) -> str:
        """The unknown keys, and a few known ones that resemble the first or show what keys look like."""
        listed = ", ".join(short(key) for key in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        popular = self.catalog.keys[:SEARCHED]
        close = difflib.get_close_matches(str(unknown[0])[:100], popular)
        if close:
            return f"{listed} (did you mean {' or '.join(map(short, close))}?)"
        return f"{listed} (known keys look like {', '.join(map(short, popular[:3]))})"


def short(key: object) -> str:
    """A key, fit for a message."""
    text = repr(key)
    return text if len(text) <= 60 else f"{text[:57]}..."
