from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import DataError
from leanrec.data.catalog import add_titles, number_items


def test_items_are_numbered_by_count_and_ties_by_key() -> None:
    frame, ids = number_items(pl.Series(["d", "b", "none", "a", "c"]), np.array([1, 5, 0, 1, 9]))
    assert frame.columns == ["item", "title", "count"]
    assert frame["item"].to_list() == frame["title"].to_list() == ["c", "b", "a", "d"]
    assert frame["count"].to_list() == [9, 5, 1, 1]
    assert ids.tolist() == [4, 2, 0, 3, 1]
    assert ids.dtype == np.int32


@pytest.fixture
def catalog() -> pl.DataFrame:
    return pl.DataFrame({"item": ["2", "1", "x y"], "title": ["2", "1", "x y"], "count": [3, 2, 1]})


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet", "jsonl"])
def test_titles_of_every_form(tmp_path: Path, catalog: pl.DataFrame, form: str) -> None:
    path = tmp_path / "titles"
    table = pl.DataFrame(
        {"year": [1, 2, 3, 4], "movieId": ["1", "2", "9", "1"], "title": ['Up, "down"', " Été 🌞 ", "Other", "Again"]}
    )
    if form == "parquet":
        table.write_parquet(path)
    elif form == "jsonl":
        table.write_ndjson(path)
    else:
        table.write_csv(path, separator="," if form == "csv" else "\t", quote_style="always")
    named, missing = add_titles(catalog, path)
    assert named["title"].to_list() == ["Été 🌞", 'Up, "down"', "x y"]
    assert named["item"].to_list() == catalog["item"].to_list()
    assert named["count"].to_list() == [3, 2, 1]
    assert missing == 1


def test_whole_numbers_as_item_keys_of_a_parquet_file(tmp_path: Path, catalog: pl.DataFrame) -> None:
    pl.DataFrame({"id": [1, 2], "label": ["one", None]}).write_parquet(tmp_path / "titles")
    named, missing = add_titles(catalog, tmp_path / "titles", item="id", title="label")
    assert named["title"].to_list() == ["2", "one", "x y"]
    assert missing == 2


def test_a_stray_separator_in_a_title_is_no_reason_to_stop(tmp_path: Path, catalog: pl.DataFrame) -> None:
    (tmp_path / "titles").write_text("item\ttitle\n1\tone\tand more\n2\ttwo\n")
    assert add_titles(catalog, tmp_path / "titles")[0]["title"].to_list() == ["two", "one", "x y"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "item,title\n7,seven\n",
            r"expected titles of items like '2', got none in column 'item' of .*titles; is it the",
        ),
        ("item,title\n", r"expected titles of items like '2', got none"),
        ("item,year\n1,1999\n", r"expected a title column, got the columns item, year in .*titles; name it"),
        ("thing,title\n1,one\n", r"expected an item column, got the columns thing, title in"),
        ("1 2 3\n4 5 6 7\n", r"expected a table with an item and a title column, got words in .*titles; add a header"),
    ],
)
def test_titles_that_do_not_fit(tmp_path: Path, catalog: pl.DataFrame, text: str, message: str) -> None:
    (tmp_path / "titles").write_text(text)
    with pytest.raises(DataError, match=message):
        add_titles(catalog, tmp_path / "titles")
