"""Ids of users and items as text: one id has one text, however a log writes it."""

from __future__ import annotations

import polars as pl

from leanrec.core.errors import DataError

MISSING = ("nan", "NaN", "null", "NULL", "\\N", "NA", "N/A", "<NA>", "None", "NaT")
"""What tools write where there is no value."""
_EXACT = 2.0**53
"""Whole numbers up to this are exact in a column of floats."""
_WHOLE = r"^(-?\d+)\.0+$"


class Ids:
    """Turns a column of ids into text, frame by frame, and counts what it changed.

    Blanks around an id are stripped. A whole number with a fraction of zeros, "7.0", is the whole number "7".

    Args:
        role: "user", "item" or "title item".
        column: Name in the log.
    """

    def __init__(self, role: str, column: str) -> None:
        self.role, self.column = role, column
        self.stripped = self.whole = self.rounded = 0

    def clean(self, values: pl.Series, source: str) -> pl.Series:
        """Text, null where there is no id.

        Args:
            source: Where the values are from, for messages.

        Raises:
            DataError: The column is of a type that holds no ids.
        """
        kind = values.dtype
        if kind.is_integer():
            return values.cast(pl.String)
        if kind.is_float():
            return self._from_floats(values)
        if kind == pl.Binary:
            try:
                return self._from_text(values.cast(pl.String))
            except pl.exceptions.PolarsError:
                raise self._refused("bytes that are no text", source, "decode it") from None
        if not (kind in (pl.String, pl.Categorical, pl.Enum, pl.Null) or kind.is_decimal()):
            raise self._refused(str(kind), source, "name another column, or cast this one")
        return self._from_text(values.cast(pl.String))

    def _refused(self, got: str, source: str, advice: str) -> DataError:
        return DataError(
            f"expected text or numbers as {self.role} ids, got {got} in column {self.column!r} of {source}; {advice}"
        )

    def _from_floats(self, values: pl.Series) -> pl.Series:
        whole = ((values == values.floor()) & (values.abs() < _EXACT)).fill_null(False)
        self.whole += int(whole.sum())
        self.rounded += int((values.abs() >= _EXACT).fill_null(False).sum())
        text = values.fill_nan(None).cast(pl.String)
        return text.zip_with(~whole, values.set(~whole, None).cast(pl.Int64).cast(pl.String)) if whole.any() else text

    def _from_text(self, text: pl.Series) -> pl.Series:
        bare = text.str.strip_chars()
        self.stripped += int((bare != text).sum())
        if bare.str.contains(".0", literal=True).any():
            whole = bare.str.replace(_WHOLE, "$1")
            self.whole += int((whole != bare).sum())
            bare = whole
        return bare.set(is_missing(bare), None)

    def notes(self) -> list[str]:
        """What was changed, a line each."""
        ids = f"{self.role} ids"
        found = (
            (self.stripped, f"{self.stripped} {ids} had blanks around them, which were left out"),
            (self.whole, f"{self.whole} {ids} are whole numbers with a fraction, such as '7.0', and were read as '7'"),
            (
                self.rounded,
                f"{self.rounded} {ids} are above 2**53 in a column of floats, where different ids may be one",
            ),
        )
        return [line for count, line in found if count]


def is_missing(text: pl.Series) -> pl.Series:
    """bool, whether a text says that there is no value: null, blank, or one of `MISSING`."""
    return text.is_null() | (text == "").fill_null(True) | text.is_in(MISSING)
