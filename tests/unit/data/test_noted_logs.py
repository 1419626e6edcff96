"""What an import guessed, changed or found odd stands in the notes of the store."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from leanrec.core.errors import DataError
from unit.data.logs import CSV, EVENTS, T0, TABLE, lines, read, sizes


def notes(tmp_path: Path, content: str | bytes | pl.DataFrame, **options: Any) -> str:
    return "\n".join(read(tmp_path, content, **options).meta.notes)


def timed(change: Any) -> pl.DataFrame:
    return pl.DataFrame(
        [(u, i, change(n, t)) for n, (u, i, t) in enumerate(EVENTS)], ["user", "item", "time"], orient="row"
    )


NOTED: dict[str, tuple[str | bytes | pl.DataFrame, str]] = {
    "comments": ("# one\n# two\n" + CSV, "2 lines at the start are comments and were left out"),
    "blanks": (CSV.replace("\n1,", "\n 1,"), "6 user ids had blanks around them, which were left out"),
    "floats": (
        CSV.replace("\n1,", "\n1.0,"),
        "6 user ids are whole numbers with a fraction, such as '7.0', and were read as '7'",
    ),
    "large floats": (
        TABLE.with_columns(user=pl.col("user") * 1e18),
        "72 user ids are above 2**53 in a column of floats, where different ids may be one",
    ),
    "two units": (
        timed(lambda n, t: t * 1000 if n % 3 == 0 else t),
        "times are in several units: 48 look like seconds, 24 look like milliseconds",
    ),
    "nanoseconds": (timed(lambda n, t: t * 10**9 if n == 5 else t), "71 look like seconds, 1 look like nanoseconds"),
    "the future": (timed(lambda n, t: t * 5 if n < 7 else t), "7 events have a time after now, the latest 2223-"),
    "before 1990": (timed(lambda n, t: 0 if n < 4 else t), "4 events have a time before 1990"),
    "dates before 1990": (
        timed(lambda n, t: datetime.fromtimestamp(t / 1000, UTC)),
        "72 events have a time before 1990",
    ),
    "one time": (timed(lambda n, t: T0), "all events have one time, so the order of the log is the order of events"),
    "kinds": (
        TABLE.with_columns(behavior_type=pl.lit("pv")),
        "column 'behavior_type' seems to hold kinds of events; all were kept, choose with --where",
    ),
    "lists": (TABLE.group_by("user").agg("item"), "a row holds a list of items of one user, the oldest first"),
    "carriage returns": (CSV.replace("\n", "\r"), "lines end with a carriage return alone"),
    "Latin": (
        CSV.replace(",3,", ",caf\u00e9,").encode("latin-1"),
        "it is not UTF-8 and was read as cp1252; if that is wrong, name it with --encoding",
    ),
    "UTF-16": (CSV.encode("utf-16"), "read as utf-16, as its byte order mark says"),
    "a header": (
        "uid mid\n" + lines("{u} {i}"),
        "the first line, 'uid mid', was taken for a header; say --no-header if it is not",
    ),
}


@pytest.mark.parametrize("case", NOTED)
def test_what_was_guessed_or_is_odd_is_noted(tmp_path: Path, case: str) -> None:
    content, note = NOTED[case]
    assert note in notes(tmp_path, content)


def test_nothing_odd_has_no_note(tmp_path: Path) -> None:
    assert notes(tmp_path, CSV) == "csv: user from 'user', item from 'item', time from 'time'"


@pytest.mark.parametrize("word", ["", " ", "\\N", "NA", "None", "nan", "NULL", "<NA>"])
def test_events_without_an_id_are_left_out_and_counted(tmp_path: Path, word: str) -> None:
    store = read(tmp_path, CSV.replace("\n1,", f"\n{word},").replace(f",{T0 + 2000}", ",NULL"), missing="drop")
    assert sizes(store) == (11, 9, 65)
    assert store.meta.dropped == {"missing user": 6, "missing time": 1}


def test_nothing_is_left_where_all_is_missing(tmp_path: Path) -> None:
    message = r"expected an interaction log, got no event that was kept, dropped 2 \(missing item\) in .*log"
    with pytest.raises(DataError, match=message):
        read(tmp_path, "user,item\n1,NA\n2,\n", missing="drop")
    with pytest.raises(DataError, match="expected missing to be error or drop, got 'keep'"):
        read(tmp_path, CSV, missing="keep")


def test_titles_of_items_that_are_numbers_in_one_table_and_floats_in_the_other(tmp_path: Path) -> None:
    (tmp_path / "titles").write_text("item,title\n" + "".join(f" {item},Thing {item}\n" for item in range(1, 10)))
    store = read(tmp_path, "user,item,time\n" + lines("{u},{i}.0,{t}"), titles=tmp_path / "titles")
    assert set(store.catalog.titles) == {f"Thing {item}" for item in range(1, 10)}
    assert set(store.catalog.keys) == set("123456789")


@pytest.mark.parametrize(("zone", "hour"), [(None, 12), ("UTC", 12), ("Europe/Berlin", 10), ("America/New_York", 16)])
@pytest.mark.parametrize("form", ["text", "dates", "format"])
def test_times_without_a_zone_are_of_the_one_that_is_named(
    tmp_path: Path, zone: str | None, hour: int, form: str
) -> None:
    noon = datetime(2020, 7, 1, 12)
    value: Any = {"text": "2020-07-01 12:00", "dates": noon, "format": "1.7.2020 12:00"}[form]
    table = TABLE.with_columns(time=pl.lit(value))
    store = read(tmp_path, table, timezone=zone, time_format="%d.%m.%Y %H:%M" if form == "format" else None)
    assert store.times is not None
    assert datetime.fromtimestamp(int(store.times[0]), UTC).hour == hour


def test_times_with_a_zone_keep_it(tmp_path: Path) -> None:
    store = read(tmp_path, TABLE.with_columns(time=pl.lit("2020-07-01T12:00:00+02:00")), timezone="America/New_York")
    assert store.times is not None
    assert datetime.fromtimestamp(int(store.times[0]), UTC).hour == 10
