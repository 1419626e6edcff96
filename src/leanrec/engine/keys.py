"""Translate item keys to ids; an unknown key is refused with keys that resemble it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

from leanrec.core.errors import ServeError, UnknownItemError
from leanrec.core.plain import Catalog

KEYS_SEARCHED = 500
"""Most keys, popular ones of about the same length, that an unknown key is compared with."""
_POPULAR = 20_000
"""Most popular keys, from which these are taken."""
_LONGEST = 64
"""Most characters of a key that is compared; longer ones take long."""


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
            ServeError: A history is no list.
        """
        known: list[list[int]] = []
        unknown: list[list[str]] = []
        for row, history in enumerate(histories):
            if isinstance(history, str):
                raise ServeError(
                    f"expected a list of item keys, got the text {short(history)}{place(row, len(histories))}; put it in a list"
                )
            found = [self.ids[key] for key in history if key in self.ids]
            known.append(found)
            missing = len(found) < len(history)
            unknown.append([key for key in dict.fromkeys(history) if key not in self.ids] if missing else [])
        return known, unknown

    def stranger(self, unknown: list[str], suggest: bool = True, where: str = "") -> ServeError:
        """The error of a history without a known key.

        Args:
            unknown: Its keys; none of an empty history.
            suggest: Whether known keys that resemble the first are named, which takes some milliseconds to find.
            where: Which history it is, behind a blank.
        """
        if not unknown:
            return ServeError(f"expected at least one item key, got an empty history{where}")
        return UnknownItemError(f"expected at least one known item key, got {self._named(unknown, suggest)}{where}")

    def columns(self, history: Sequence[str], columns: Mapping[str, list[int]]) -> dict[str, list[int]]:
        """Of columns with a value for every event of a history, those of the events whose keys are known."""
        return {
            name: [value for key, value in zip(history, column, strict=True) if key in self.ids]
            for name, column in columns.items()
        }

    def some(self, keys: Collection[str]) -> set[int]:
        """Ids of those keys that the catalogue has."""
        return {self.ids[key] for key in keys if key in self.ids}

    def allowed(self, allow: Collection[str], suggest: bool = True) -> set[int]:
        """Ids of the only items that may be recommended; unknown keys are skipped.

        Raises:
            UnknownItemError: None of the keys is known.
        """
        known = self.some(allow)
        if not known:
            got = self._named(list(allow), suggest) if allow else "none"
            raise UnknownItemError(f"expected at least one known item key in allow, got {got}")
        return known

    def _named(self, unknown: list[str], suggest: bool) -> str:
        """The unknown keys, and a few known ones that resemble the first or show what keys look like."""
        listed = ", ".join(short(key) for key in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        close = self._resembling(str(unknown[0])) if suggest else []
        if close:
            return f"{listed} (did you mean {' or '.join(map(short, close))}?)"
        return f"{listed} (known keys look like {', '.join(map(short, self.catalog.keys[:3]))})"

    def _resembling(self, unknown: str) -> list[str]:
        if len(unknown) > _LONGEST:
            return []
        near = (key for key in self.catalog.keys[:_POPULAR] if abs(len(key) - len(unknown)) <= 2)
        return difflib.get_close_matches(unknown, islice(near, KEYS_SEARCHED))


def place(row: int, histories: int) -> str:
    """Which of several histories something is about, behind a blank; nothing where there is one."""
    return f" in history {row + 1} of {histories}" if histories > 1 else ""


def short(key: object) -> str:
    """A key, fit for a message."""
    text = repr(key)
    return text if len(text) <= 60 else f"{text[:57]}..."
