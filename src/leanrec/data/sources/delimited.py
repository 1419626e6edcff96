"""Tables of text, a row a line: CSV, TSV and RecBole's .inter."""

from __future__ import annotations

import csv
import io
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

import polars as pl

from leanrec.core.errors import DataError
from leanrec.data.blocks import CUT, blocks, decode, last_line_end
from leanrec.data.columns import guess
from leanrec.data.looks import is_data, is_header, options
from leanrec.data.progress import OnProgress
from leanrec.data.source import Named, Source
from leanrec.data.sources import sources

_SEPARATORS = ("\t", ",", ";", "|", " ", "::")
_UNIT = b"\x1f"
"""Stands for a separator of several characters where Polars reads the fields."""
_BLANKS = re.compile(rb"[ \t]+")
_EDGES = re.compile(rb"(?m)^ | (?=\r?$)")
_ATOMIC = re.compile(r"(.+):(token|token_seq|float|float_seq)")
_SAMPLE = 100
"""Rows that are looked at."""


class Delimited(Source):
    """Rows of text with separators in between; empty unquoted fields are null.

    Attributes:
        separator: Between the fields.
        quoted: Fields may be wrapped in double quotes, and hold separators and line ends then.
        header: The first line names the columns.
    """

    file_form = True
    separator: str
    quoted: bool
    header: bool = True

    def open(self) -> None:
        lines = self.log.text()
        self.found: tuple[str, ...] = self.log.script.notes
        self.separator, self.quoted = self.find_form(lines)
        rows = [fields(line, self.separator, self.quoted) for line in lines[: _SAMPLE + 1]]
        names = self._names(rows)
        self.header = self._has_header(rows, names)
        if not self.header:
            names = [str(position + 1) for position in range(len(rows[0]))]
        elif self.log.wanted and self.by_position and not set(self.log.wanted) <= set(names):
            names = [str(position + 1) for position in range(len(names))]
        elif is_data(rows[0]):
            shown = {" ": "blanks", "\t": "tabs"}.get(self.separator, repr(self.separator))
            self.advice = f"its first line, separated by {shown}, looks like data: give positions, {options(rows)}"
        self.columns = tuple(names)

    @property
    def by_position(self) -> bool:
        """Whether the user names columns by numbers."""
        return bool(self.log.wanted) and all(name.isdecimal() for name in self.log.wanted)

    def _has_header(self, rows: Sequence[Sequence[str]], names: Sequence[str]) -> bool:
        if self.log.header is not None:
            return self.log.header
        if self.by_position and "0" not in self.log.wanted and is_header(rows[0], rows[1:]):
            raise DataError(
                f"expected --header or --no-header with positions, got a first line that looks like a header, "
                f"{self.separator.join(rows[0])!r}, in {self.log.path}; say which it is, or give names"
            )
        return not self.by_position or ("0" in self.log.wanted and set(self.log.wanted) <= set(names))

    def _names(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """The first row without blanks around its names, and as many as the others have where those end with a separator."""
        names, rest = [name.strip() for name in rows[0]], rows[1:]
        if rest and all(len(row) == len(names) + 1 for row in rest):
            if all(not row[-1].strip() for row in rest):
                self.found += ("rows end with a separator that the header does not have",)
                return [*names, ""]
            raise DataError(
                f"expected a header of {len(names) + 1} names, as all rows have fields, got {len(names)} in {self.log.path}; "
                "name the first column too, if rows begin with numbers of theirs"
            )
        return names

    @abstractmethod
    def find_form(self, lines: list[str]) -> tuple[str, bool]:
        """The separator, and whether fields may be quoted."""

    def notes(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        return (*super().notes(columns), *self.found)

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        position = {role: self.columns.index(name) for role, name in columns.items()}
        row, skip, block = 1, self.header, b""
        for block in blocks(self.log.path, script=self.log.script, quoted=self.quoted, progress=progress):
            while skip and block:  # blank lines may stand before the header
                line, _, block = block.partition(b"\n")
                skip = not line.strip()
            if row == 1:
                block = block.lstrip(b"\r\n") if not self.header else block
            if not block.strip():
                continue
            if block.endswith((b"\n\n", b"\n\r\n")):
                block = block.rstrip(b"\r\n")
            frame = self._parsed(block, row, position, lenient)
            yield frame.select(
                *(pl.col(str(place)).alias(role) for role, place in position.items()),
                pl.int_range(row, row + frame.height, dtype=pl.Int64).alias("row"),
            )
            row += frame.height
        if not lenient:
            self._check_last(block, row - 1)

    def _parsed(self, block: bytes, row: int, position: Mapping[str, int], lenient: bool) -> pl.DataFrame:
        last = len(self.columns) - 1  # Polars notices surplus fields only if it reads the last column
        separator, text = self.separator.encode(), block
        if len(separator) > 1:
            separator, text = _UNIT, block.replace(separator, _UNIT)
        elif separator == b" " and b'"' not in block:
            text = _EDGES.sub(b"", _BLANKS.sub(b" ", block))
        # a header in every block, so that no row of the log is taken for its shape
        header = separator.join(str(place).encode() for place in range(last + 1)) + b"\n"

        def read(encoding: str) -> pl.DataFrame:
            return pl.read_csv(
                header + text,
                columns=[str(place) for place in sorted({*position.values(), last})],
                separator=separator.decode(),
                quote_char='"' if self.quoted and b'"' in text else None,
                infer_schema=False,
                truncate_ragged_lines=lenient,
                encoding=encoding,
            )

        try:
            return read("utf8")
        except pl.exceptions.PolarsError as error:
            lossy = None
            if not _is_text(block):  # which matters in the columns that are used
                with suppress(pl.exceptions.PolarsError):
                    lossy = read("utf8-lossy")
            if lossy is None or any(lossy[str(place)].str.contains("\ufffd").any() for place in position.values()):
                decode(self.log.path, block, row, "row")
                self._blame_row(text.decode(), separator.decode(), row, error)
            return lossy

    def _check_last(self, block: bytes, row: int) -> None:
        block = block.rstrip(b"\r\n")
        if not block or row == 0:
            return
        line = block[last_line_end(block, self.quoted) :].decode(errors="replace")
        try:
            got = len(fields(line, self.separator, self.quoted))
        except csv.Error:  # a field longer than the module reads; Polars has read it
            return
        if got != len(self.columns):
            raise DataError(
                f"expected {len(self.columns)} fields, got {got} in the last row, {row}, of {self.log.path}; {CUT}"
            )

    def _blame_row(self, text: str, separator: str, row: int, error: Exception) -> NoReturn:
        """Find the row that Polars refused and say what is wrong with it."""
        path = self.log.path
        if self.quoted and '\\"' in text:
            raise DataError(
                f'expected quotes inside of fields to be doubled, got \\" around row {row} of {path}; write "" instead'
            )
        rows = _rows(io.StringIO(text, newline=""), separator, self.quoted, strict=True)
        try:
            for number, found in enumerate(rows, row):
                if len(found) > len(self.columns):
                    raise DataError(
                        f"expected {len(self.columns)} fields, got {len(found)} in row {number} of {path}; "
                        "quote fields that hold the separator"
                    )
                row = number + 1
        except csv.Error as problem:
            got = "a quote that is not closed" if "end of data" in str(problem) else f"{problem}"
            raise DataError(f"expected whole quoted fields, got {got} from row {row} of {path}; {CUT}") from None
        stray = _stray_quote(text, separator) if self.quoted else None
        if stray is not None:
            raise DataError(
                f"expected {self.form}, got text that cannot be parsed before row {row} of {path}: a quote inside of the field "
                f"{stray[:40]!r}; wrap such fields in quotes and double the quote"
            )
        reason = str(error).split("\n")[0]
        raise DataError(f"expected {self.form}, got text that cannot be parsed before row {row} of {path}: {reason}")


@sources.register("csv")
class Csv(Delimited):
    """A table separated by commas, semicolons, bars, blanks or double colons."""

    def sure(self) -> int:
        return _sureness(self.log, tabs=False)

    def find_form(self, lines: list[str]) -> tuple[str, bool]:
        known = self.log.script.separator or _separator(lines[0], self.log.wanted)
        if not known and _double_colons(lines):
            return "::", False
        return known or max(",;| ", key=lines[0].count), known != "::"


@sources.register("tsv")
class Tsv(Delimited):
    """A table separated by tabs."""

    def sure(self) -> int:
        return _sureness(self.log, tabs=True)

    def find_form(self, lines: list[str]) -> tuple[str, bool]:
        parts = (field for line in lines for field in line.split("\t"))
        return "\t", any(len(field) > 1 and field[0] == field[-1] == '"' for field in parts)


@sources.register("inter")
class Inter(Delimited):
    """RecBole's atomic file: separated by tabs, with a header 'name:type'."""

    def sure(self) -> int:
        return 80 if self.log.lines and _atomic(self.log.lines[0]) else 0

    def open(self) -> None:
        lines = self.log.text()
        self.separator, self.quoted = self.find_form(lines)
        names = _atomic(lines[0]).get(self.separator)
        if not names:
            raise DataError(
                f"expected a header such as 'user_id:token<tab>item_id:token', got {lines[0]!r} in {self.log.path}"
            )
        self.found = self.log.script.notes
        if self.separator != "\t":
            self.found += (f"{self.separator!r} separates the fields, where RecBole has tabs",)
        self.columns = tuple(names)

    def find_form(self, lines: list[str]) -> tuple[str, bool]:
        return next(iter(_atomic(lines[0])), "\t"), False


def _atomic(line: str) -> dict[str, list[str]]:
    """The separators that split a line into names with types, and the names."""
    found = {}
    for separator in _SEPARATORS:
        names = [_ATOMIC.fullmatch(field.strip()) for field in line.split(separator)]
        if all(names):
            found[separator] = [name[1] for name in names if name]
    return dict(sorted(found.items(), key=lambda split: -len(split[1])))


def _sureness(log: Named, tabs: bool) -> int:
    """High if the first line names a user and an item column, low if it looks like a table at all."""
    lines = log.lines
    if not lines or log.foreign:
        return 0
    separator = log.script.separator or _separator(lines[0], log.wanted)
    if separator:
        return 70 if tabs == (separator == "\t") else 0
    table = (
        any(mark in lines[0] for mark in "\t,;|")
        or all(len(line.split()) == 1 for line in lines)
        or _double_colons(lines)
    )
    return 50 if table and tabs == ("\t" in lines[0]) else 0


def _double_colons(lines: Sequence[str]) -> bool:
    """Whether all lines have as many double colons, and no other separators in between."""
    counts = {line.count("::") for line in lines[:_SAMPLE]}
    return len(counts) == 1 and counts != {0} and not any(mark in lines[0] for mark in "\t,;|")


def _separator(line: str, wanted: tuple[str, ...]) -> str | None:
    """What splits a header line into a user and an item column, if anything does."""
    for separator in _SEPARATORS:
        names = [name.strip() for name in fields(line, separator, True)]
        if len(names) < 2:
            continue
        if (wanted and set(wanted) <= set(names)) or (guess("user", names) and guess("item", names)):
            return separator
    return None


def fields(line: str, separator: str, quoted: bool) -> list[str]:
    """The fields of a line."""
    if len(separator) > 1:
        return line.split(separator)
    if separator == " " and '"' not in line:
        line = " ".join(line.split())
    try:
        return next(_rows([line], separator, quoted), [""])
    except csv.Error:  # a carriage return in the middle, or a very long field
        return line.split(separator)


def _rows(lines: Iterable[str], separator: str, quoted: bool, strict: bool = False) -> Iterator[list[str]]:
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    return csv.reader(lines, delimiter=separator, quoting=quoting, strict=strict)


def _is_text(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _stray_quote(text: str, separator: str) -> str | None:
    """The first field with a quote that neither begins nor ends it."""
    parts = (field for line in text.split("\n") for field in line.rstrip("\r").split(separator))
    return next((field for field in parts if '"' in field and not field.startswith('"')), None)
