"""Tables of text, a row a line: CSV, TSV and RecBole's .inter."""

from __future__ import annotations

import csv
import io
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import NoReturn

import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.blocks import CUT, blocks, decode, last_line_end
from leanrec.data.columns import guess
from leanrec.data.progress import OnProgress
from leanrec.data.source import Named, Source
from leanrec.data.sources import sources

_SEPARATORS = "\t,;| "
_ATOMIC = re.compile(r"(.+):(token|token_seq|float|float_seq)")


class Delimited(Source):
    """Rows of text with separators in between; empty unquoted fields are null.

    Attributes:
        separator: Between the fields.
        quoted: Fields may be wrapped in double quotes, and hold separators and line ends then.
        header: The first line names the columns.
    """

    separator: str
    quoted: bool
    header: bool = True

    def open(self) -> None:
        lines = self.log.text()
        self.separator, self.quoted = self.find_form(lines)
        names = _fields(lines[0], self.separator, self.quoted)
        wanted = self.log.wanted
        if wanted and all(name.isdecimal() for name in wanted) and not set(wanted) <= set(names):
            self.header, names = False, [str(position + 1) for position in range(len(names))]
        self.columns = tuple(names)

    @abstractmethod
    def find_form(self, lines: list[str]) -> tuple[str, bool]:
        """The separator, and whether fields may be quoted."""

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        header = self.separator.join(map(str, range(len(self.columns)))).encode() + b"\n"
        position = {role: self.columns.index(name) for role, name in columns.items()}
        last = len(self.columns) - 1  # Polars notices surplus fields only if it reads the last column
        row, skip, block = 1, self.header, b""
        for block in blocks(self.log.path, quoted=self.quoted, progress=progress):
            while skip and block:  # blank lines may stand before the header
                line, _, block = block.partition(b"\n")
                skip = not line.strip()
            if not block.strip():
                continue
            if block.endswith((b"\n\n", b"\n\r\n")):
                block = block.rstrip(b"\r\n")
            try:
                frame = pl.read_csv(
                    header + block,  # a header in every block, so that no row of the log is taken for its shape
                    columns=[str(place) for place in sorted({*position.values(), last})],
                    separator=self.separator,
                    quote_char='"' if self.quoted and b'"' in block else None,
                    infer_schema=False,
                    truncate_ragged_lines=lenient,
                )
            except pl.exceptions.PolarsError as error:
                self._blame_row(block, row, error)
            yield frame.select(
                *(pl.col(str(place)).alias(role) for role, place in position.items()),
                pl.int_range(row, row + frame.height, dtype=pl.Int64).alias("row"),
            )
            row += frame.height
        if not lenient:
            self._check_last(block, row - 1)

    def _check_last(self, block: bytes, row: int) -> None:
        block = block.rstrip(b"\r\n")
        if not block or row == 0:
            return
        line = block[last_line_end(block, self.quoted) :].decode(errors="replace")
        try:
            got = len(next(self._reader(line)))
        except csv.Error:  # a field longer than the module reads; Polars has read it
            return
        if got != len(self.columns):
            raise DataError(
                f"expected {len(self.columns)} fields, got {got} in the last row, {row}, of {self.log.path}; {CUT}"
            )

    def _blame_row(self, block: bytes, row: int, error: Exception) -> NoReturn:
        """Find the row that Polars refused and say what is wrong with it."""
        path = self.log.path
        text = decode(path, block, row, "row")
        try:
            for fields in self._reader(text):
                if len(fields) > len(self.columns):
                    raise DataError(
                        f"expected {len(self.columns)} fields, got {len(fields)} in row {row} of {path}; "
                        "quote fields that hold the separator"
                    )
                row += 1
        except csv.Error as problem:
            got = "a quote that is not closed" if "end of data" in str(problem) else f"{problem}"
            raise DataError(f"expected whole quoted fields, got {got} from row {row} of {path}; {CUT}") from None
        reason = str(error).split("\n")[0]
        raise DataError(f"expected {self.form}, got text that cannot be parsed before row {row} of {path}: {reason}")

    def _reader(self, text: str) -> Iterator[list[str]]:
        quoting = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        return csv.reader(io.StringIO(text, newline=""), delimiter=self.separator, quoting=quoting, strict=True)


@sources.register("csv")
class Csv(Delimited):
    """A table separated by commas, semicolons, bars or spaces."""

    def sure(self) -> int:
        return _sureness(self.log, tabs=False)

    def find_form(self, lines: list[str]) -> tuple[str, bool]:
        return _separator(lines[0], self.log.wanted) or max(",;| ", key=lines[0].count), True


@sources.register("tsv")
class Tsv(Delimited):
    """A table separated by tabs."""

    def sure(self) -> int:
        return _sureness(self.log, tabs=True)

    def find_form(self, lines: list[str]) -> tuple[str, bool]:
        fields = (field for line in lines for field in line.split("\t"))
        return "\t", any(len(field) > 1 and field[0] == field[-1] == '"' for field in fields)


@sources.register("inter")
class Inter(Delimited):
    """RecBole's atomic file: separated by tabs, with a header 'name:type'."""

    def sure(self) -> int:
        lines = self.log.lines
        return 80 if lines and all(map(_ATOMIC.fullmatch, lines[0].split("\t"))) else 0

    def open(self) -> None:
        lines = self.log.text()
        names = [_ATOMIC.fullmatch(field) for field in lines[0].split("\t")]
        if not all(names):
            raise DataError(
                f"expected a header such as 'user_id:token<tab>item_id:token', got {lines[0]!r} in {self.log.path}"
            )
        self.separator, self.quoted = self.find_form(lines)
        self.columns = tuple(name[1] for name in names if name)

    def find_form(self, lines: list[str]) -> tuple[str, bool]:
        return "\t", False


def _sureness(log: Named, tabs: bool) -> int:
    """High if the first line names a user and an item column, low if it looks like a table at all."""
    lines = log.lines
    if not lines:
        return 0
    separator = _separator(lines[0], log.wanted)
    if separator:
        return 70 if tabs == (separator == "\t") else 0
    table = any(mark in lines[0] for mark in "\t,;|") or all(len(line.split()) == 1 for line in lines)
    return 50 if table and tabs == ("\t" in lines[0]) else 0


def _separator(line: str, wanted: tuple[str, ...]) -> str | None:
    """The character that splits a header line into a user and an item column, if there is one."""
    for separator in _SEPARATORS:
        names = _fields(line, separator, True)
        if len(names) < 2:
            continue
        if (wanted and set(wanted) <= set(names)) or (guess("user", names) and guess("item", names)):
            return separator
    return None


def _fields(line: str, separator: str, quoted: bool) -> list[str]:
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    return next(csv.reader([line], delimiter=separator, quoting=quoting))
