from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from leanrec.core.errors import DataError
from leanrec.data.times import Times

NOON = int(datetime(2014, 4, 7, 12, 0, tzinfo=UTC).timestamp())


def seconds(*batches: list[Any]) -> list[int]:
    times = Times("log.csv", "ts", "row")
    ticks = [times.ticks(pl.Series(values), pl.Series(range(1, len(values) + 1))).tolist() for values in batches]
    return [tick // times.scale for batch in ticks for tick in batch]


@pytest.mark.parametrize(
    "value",
    [
        "2014-04-07T12:00:00.000Z",
        "2014-04-07T12:00:00",
        "2014-04-07 12:00:00",
        "2014-04-07 12:00",
        "2014-04-07 12:00:00 UTC",
        "2014/04/07 12:00:00",
        "2014-04-07T14:00:00+02:00",
        "2014-04-07T14:00:00.5+0200",
        "2014-04-07 10:00-0200",
        datetime(2014, 4, 7, 12, 0),
        datetime(2014, 4, 7, 12, 0, tzinfo=UTC),
        str(NOON),
        f"{NOON}.0",
        f"{NOON}.75",
        NOON,
        float(NOON),
    ],
)
def test_forms_of_one_time(value: Any) -> None:
    assert seconds([value, value]) == [NOON, NOON]


def test_dates_are_midnights() -> None:
    midnight = NOON - 12 * 3600
    assert seconds(["2014-04-07"]) == seconds([date(2014, 4, 7)]) == [midnight]


def test_whole_numbers_keep_their_unit() -> None:
    assert seconds(["1396872000123", "-5"], ["7.0", "8"]) == [1396872000123, -5, 7, 8]
    assert seconds([1396872000123.0]) == [1396872000123]


def test_mixed_forms_of_dates_are_read() -> None:
    assert seconds(["2014-04-07"], ["2014-04-07T12:00:00Z", "2014-04-07 12:00"])[1:] == [NOON, NOON]


@pytest.mark.parametrize("values", [["9.75", "9.5"], ["2014-04-07T10:51:09.75", "2014-04-07T10:51:09.5"]])
def test_order_within_a_second_is_kept_while_sorting(values: list[str]) -> None:
    ticks = Times("log", "ts", "row").ticks(pl.Series(values), pl.Series([1, 2]))
    assert ticks[0] > ticks[1]


@pytest.mark.parametrize(
    ("values", "got"),
    [
        (["1", "yesterday"], "'yesterday'"),
        (["1", None], "nothing"),
        (["1", "NaN"], "'NaN'"),
        (["1.5", "inf"], "'inf'"),
        ([1.5, float("nan")], "nan"),
        (["2014-04-07", "2014-13-07"], "'2014-13-07'"),
        (["2014-04-07", "07.04.2014"], "'07.04.2014'"),
        (["2014-04-07", "12"], "'12'"),
        ([1, None], "nothing"),
    ],
)
def test_what_is_no_time_is_named_with_its_row(values: list[Any], got: str) -> None:
    message = rf"expected a time such as 1700000000 or 2023-11-14T22:13:20, got {got} in row 2, column 'ts' of log\.csv"
    with pytest.raises(DataError, match=message):
        seconds(values)


def test_a_column_of_lists_is_refused() -> None:
    with pytest.raises(DataError, match=r"expected numbers, dates or text as times, got List\(Int64\) in column 'ts'"):
        seconds([[1]])
