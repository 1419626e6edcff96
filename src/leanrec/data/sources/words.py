"""Text whose lines are words: pairs, sequences and sessions. No line names the columns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.blocks import CUT, blocks, decode
from leanrec.data.looks import is_header
from leanrec.data.progress import OnProgress
from leanrec.data.source import Source
from leanrec.data.sources import sources

_WORD = r"[^ \t\r]+"
_SAMPLE = 100
"""Lines that are compared with the first, whether it is a header."""


class _Words(Source):
    """Lines of words.

    Attributes:
        saw: Why the content was taken for this form, for the store.
    """

    unit = "line"
    has_names = False
    file_form = True
    saw: str

    def open(self) -> None:
        lines = self.log.text()
        rows = [line.split() for line in lines[: _SAMPLE + 1]]
        header = self.log.header
        self.header = is_header(rows[0], rows[1:]) if header is None else header
        self.first = lines[0]

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        line, skip = 1, self.header
        for block in blocks(self.log.path, script=self.log.script, progress=progress):
            lines = decode(self.log.path, block, line, "line").split("\n")
            numbers = pl.int_range(line, line + len(lines), dtype=pl.Int64).alias("row")
            frame = pl.DataFrame({"words": lines}).select(pl.col("words").str.extract_all(_WORD), numbers)
            frame = frame.filter(pl.col("words").list.len() > 0)
            if skip and frame.height:
                frame, skip = frame[1:], False
            events = self.events(frame)
            yield events.select(*(pl.col(name).alias(role) for role, name in columns.items()), "row")
            line += block.count(b"\n")

    def _words_only(self) -> bool:
        """Whether the file has lines of words that are certainly ids."""
        return bool(self.log.lines) and not self.log.unsure

    @abstractmethod
    def events(self, lines: pl.DataFrame) -> pl.DataFrame:
        """From lines ("words", "row") to events ("user", "item", "row")."""

    def notes(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        found = self.log.script.notes
        if self.header and self.log.header is None:
            found += (f"the first line, {self.first[:80]!r}, was taken for a header; say --no-header if it is not",)
        if self.log.form is not None:
            return found
        return (f"format {self.form} found from {len(self.log.lines)} lines: {self.saw}", *found)

    def refuse(self, lines: pl.DataFrame, wrong: pl.Expr, expected: str) -> None:
        """Refuse the first of the lines that are wrong."""
        found = lines.filter(wrong)
        if found.height:
            words = len(found["words"][0])
            got = "one word" if words == 1 else f"{words} words"
            raise DataError(f"expected {expected}, got {got} in line {found['row'][0]} of {self.log.path}; {CUT}")


@sources.register("pairs")
class PairLines(_Words):
    """Lines 'user item', in time order."""

    saw = "two words on every line were taken for 'user item' in time order"

    def sure(self) -> int:
        return 60 if self._words_only() and all(len(line.split()) == 2 for line in self.log.lines) else 0

    def events(self, lines: pl.DataFrame) -> pl.DataFrame:
        words = pl.col("words").list
        self.refuse(lines, words.len() != 2, "'user item'")
        return lines.select(words.get(0).alias("user"), words.get(1).alias("item"), "row")


@sources.register("sequences")
class SequenceLines(_Words):
    """Lines 'user item item ...', one a user."""

    saw = (
        "the first word of a line was taken for the user because it differs on every line; "
        "if it is an item, import with the format 'sessions'"
    )
    read = 0

    def sure(self) -> int:
        words = [line.split() for line in self.log.lines if self._words_only()]
        return (
            40
            if words and len({line[0] for line in words}) == len(words) and all(len(line) > 1 for line in words)
            else 0
        )

    def events(self, lines: pl.DataFrame) -> pl.DataFrame:
        words = pl.col("words").list
        self.refuse(lines, words.len() < 2, "'user item item ...'")
        self.read += lines.height
        return lines.select(words.get(0).alias("user"), words.slice(1).alias("item"), "row").explode("item")

    def check_users(self, users: int) -> None:
        if self.log.form is None and users < self.read:
            raise DataError(
                f"expected one line per user, got {self.read} lines that start with {users} different words in "
                f"{self.log.path}; give the format: 'sessions' if the first words are items, 'sequences' if they are users"
            )


@sources.register("sessions")
class SessionLines(_Words):
    """Lines 'item item ...', each a session without a user."""

    numbers_users = True

    saw = (
        "a line was taken for a session without a user because first words repeat or stand alone; "
        "if they are users, import with the format 'sequences'"
    )

    def sure(self) -> int:
        return 30 if self._words_only() else 0

    def events(self, lines: pl.DataFrame) -> pl.DataFrame:
        return lines.select(pl.col("row").cast(pl.String).alias("user"), pl.col("words").alias("item"), "row").explode(
            "item"
        )
