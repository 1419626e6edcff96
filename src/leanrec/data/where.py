"""A condition on the rows of a log, written as SQL."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from leanrec.core.errors import DataError, one_line
from leanrec.data.ids import is_missing

_PREFIX = "where "


class Where:
    """Keeps rows for which a condition of SQL is true, such as ``rating >= 4 AND event = 'buy'``.

    Columns of text that hold nothing but numbers in the first rows are numbers.

    Args:
        condition: In the SQL of Polars, on any columns of the log.
        columns: That the log has.
        source: Where they are from, for messages.

    Raises:
        DataError: It is no SQL, or names other columns.
    """

    def __init__(self, condition: str, columns: Sequence[str], source: str) -> None:
        self.condition = condition
        try:
            self.expression = pl.sql_expr(condition)
            names = list(dict.fromkeys(self.expression.meta.root_names()))
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"expected a condition such as \"rating >= 4 AND event = 'buy'\", got {condition!r}: {one_line(error)}; "
                "correct it"
            ) from None
        unknown = next((name for name in names if name not in columns), None)
        if unknown is not None:
            raise DataError(
                f"expected a condition on the columns of {source}, got {unknown!r} in {condition!r}; it has the columns "
                f"{', '.join(columns)} (names in double quotes, text in single ones)"
            )
        self.columns = {_PREFIX + name: name for name in names}
        self._numbers: set[str] | None = None

    def keep(self, frame: pl.DataFrame, source: str) -> pl.Series:
        """bool, for which rows the condition is true.

        Args:
            frame: With the roles of `columns`.

        Raises:
            DataError: A value does not fit the condition.
        """
        table = frame.select(pl.col(role).alias(name) for role, name in self.columns.items())
        text = [name for name in table.columns if table[name].dtype == pl.String]
        table = table.with_columns(pl.col(name).str.strip_chars() for name in text)
        numbers = {name: table[name].cast(pl.Float64, strict=False) for name in text}
        if self._numbers is None and frame.height:
            self._numbers = {name for name in text if not _lost(table[name], numbers[name]).any()}
        for name in self._numbers or ():
            if name not in numbers:
                continue
            lost = _lost(table[name], numbers[name])
            if lost.any():
                place = int(lost.arg_true()[0])
                raise DataError(
                    f"expected numbers in column {name!r}, as in the rows before, got {table[name][place]!r} in row "
                    f"{frame['row'][place]} of {source}; correct it, or compare CAST({name} AS TEXT)"
                )
            table = table.with_columns(numbers[name].alias(name))
        try:
            kept = table.select(self.expression.alias("kept"))["kept"]
        except pl.exceptions.PolarsError as error:
            kinds = ", ".join(f"{name} ({kind})" for name, kind in table.schema.items())
            raise DataError(
                f"expected a condition that fits the columns {kinds} of {source}, got {self.condition!r}: {one_line(error)}"
            ) from None
        if kept.dtype != pl.Boolean:
            raise DataError(
                f"expected a condition that is true or false, got {self.condition!r}, which is {kept.dtype}"
            )
        if len(kept) == 1:  # a condition on no column
            kept = kept.new_from_index(0, frame.height)
        return kept.fill_null(False)


def _lost(text: pl.Series, numbers: pl.Series) -> pl.Series:
    """bool, which values are neither numbers nor missing."""
    return numbers.is_null() & ~is_missing(text)
