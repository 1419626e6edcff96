"""Which rows and events of a log are read: a condition, a span of time, one of repeats in a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from leanrec.core.errors import DataError
from unit.data.logs import CSV, T0, TABLE, histories, read

RATED = TABLE.with_columns(
    rating=pl.int_range(pl.len()) % 5 + 1,
    kind=pl.when(pl.col("item") > 4).then(pl.lit("buy")).otherwise(pl.lit("view")),
)


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize(
    ("condition", "keep"),
    [
        ("rating >= 4", pl.col("rating") >= 4),
        ("rating = 4 OR kind = 'buy'", (pl.col("rating") == 4) | (pl.col("kind") == "buy")),
        ("kind IN ('buy', 'cart')", pl.col("kind") == "buy"),
        (
            "kind LIKE 'v%' AND \"rating\" BETWEEN 1 AND 4",
            (pl.col("kind") == "view") & pl.col("rating").is_between(1, 4),
        ),
        ("item <> 3", pl.col("item") != 3),
        (f"time < {T0 + 5000}", pl.col("time") < T0 + 5000),
    ],
)
def test_a_condition_keeps_rows(tmp_path: Path, form: str, condition: str, keep: pl.Expr) -> None:
    content: Any = {"parquet": RATED, "csv": RATED.write_csv(), "jsonl": RATED.write_ndjson()}[form]
    store = read(tmp_path, content, where=condition)
    kept = RATED.filter(keep)
    assert (store.num_events, store.meta.dropped) == (kept.height, {"outside where": 72 - kept.height})
    assert histories(store) == {
        str(user): [str(item) for item in rows["item"]]
        for (user,), rows in kept.sort("time").group_by("user", maintain_order=True)
    }


@pytest.mark.parametrize("condition", ["TRUE", "1 < 2"])
def test_a_condition_on_no_column_is_one_for_all(tmp_path: Path, condition: str) -> None:
    assert read(tmp_path, CSV, where=condition).num_events == 72


def test_missing_values_are_not_true(tmp_path: Path) -> None:
    store = read(
        tmp_path, RATED.write_csv().replace(",5,view", ",,view").replace(",5,buy", ",,buy"), where="rating >= 2"
    )
    assert store.num_events == RATED.filter(pl.col("rating").is_between(2, 4)).height


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (
            "rating >=",
            r"expected a condition such as \"rating >= 4 AND event = 'buy'\", got 'rating >=': .*; correct it",
        ),
        (
            "stars > 3",
            r"expected a condition on the columns of .*log, got 'stars' in 'stars > 3'; it has the columns user, ",
        ),
        ("kind > 3", r"expected a condition that fits the columns kind \(String\) of .*log, got 'kind > 3'"),
        ("rating + 1", r"expected a condition that is true or false, got 'rating \+ 1', which is"),
        ("rating > 9", r"expected an interaction log, got no event that was kept, dropped 72 \(outside where\) in"),
    ],
)
def test_conditions_that_do_not_fit(tmp_path: Path, condition: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, RATED, where=condition)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_text_after_numbers_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanrec.data.blocks.BLOCK", 100)
    monkeypatch.setattr("leanrec.data.packed.READ_AT_ONCE", 50)
    text = "user,item,rating\n" + "a,b,5\n" * 50 + "a,b,good\n"
    with pytest.raises(DataError, match=r"expected numbers in column 'rating', .* got 'good' in row 51 of .*CAST"):
        read(tmp_path, text, where="rating > 4")


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "dates", "text", "fractions"])
def test_events_of_a_span_of_time(tmp_path: Path, form: str) -> None:
    date = pl.from_epoch("time")
    change = {
        "seconds": pl.col("time"),
        "milliseconds": pl.col("time") * 1000,
        "dates": date,
        "text": date.dt.strftime("%Y-%m-%dT%H:%M:%S"),
        "fractions": pl.col("time") + 0.25,
    }[form]
    store = read(
        tmp_path, TABLE.with_columns(change.alias("time")), since="2020-09-13T13:16:40", until="2020-09-13 14:33:20"
    )
    kept = TABLE.filter(pl.col("time").is_between(T0 + 3000, T0 + 7600, closed="left"))
    assert store.num_events == kept.height
    assert store.meta.dropped == {
        "before since": TABLE.filter(pl.col("time") < T0 + 3000).height,
        "until and later": TABLE.filter(pl.col("time") >= T0 + 7600).height,
    }


def test_a_bound_is_a_number_of_the_log_or_a_date_of_its_form_and_zone(tmp_path: Path) -> None:
    assert read(tmp_path, CSV, since=str(T0 + 3000)).meta.dropped == {"before since": 12}
    table = TABLE.with_columns(pl.from_epoch("time").dt.strftime("%d.%m.%Y %H:%M:%S").alias("time"))
    options: dict[str, Any] = {"time_format": "%d.%m.%Y %H:%M:%S", "overwrite": True}
    assert read(tmp_path, table, since="2020-09-13 13:16:40", **options).meta.dropped == {"before since": 12}
    moved = read(tmp_path, table, since="2020-09-13 13:16:40", timezone="Europe/Berlin", **options)
    assert moved.meta.dropped == {"before since": 12}


def test_bounds_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"expected a time such as 2023-11-14 or a number, got 'monday'; correct --since"
    ):
        read(tmp_path, CSV, since="monday")
    with pytest.raises(
        DataError, match=r"expected a time column for since and until, got none in .*; name it with --time"
    ):
        read(tmp_path, "a b\nb c\n", until="2020-01-01")


def test_repeats_in_a_row_become_one(tmp_path: Path) -> None:
    text = "user,item,time\n" + "".join(f"{user},{item},{n}\n" for user in "ab" for n, item in enumerate("xxyyyxz"))
    store = read(tmp_path, text, collapse=True)
    assert histories(store) == {"a": list("xyxz"), "b": list("xyxz")}
    assert store.meta.dropped == {"immediate repeats": 6}
    assert store.times is not None and store.times.tolist() == [0, 2, 5, 6] * 2
