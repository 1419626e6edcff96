from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from leanrec.core.errors import ConfigError, DataError
from leanrec.data.source import Source
from leanrec.data.sources import open_source, sources
from leanrec.data.sources.delimited import Delimited

CASES = {
    "csv": b"user_id,item_id,rating,timestamp\n1,2,5,7\n",
    "tsv": b"user\titem\n1\t2\n",
    "inter": b"user_id:token\titem_id:token\ttimestamp:float\n1\t2\t3.0\n",
    "jsonl": b'{"userId": 1, "asin": "B0"}\n{"userId": 2, "asin": "B1", "time": 4}\n',
    "pairs": b"1 2\n1 3\n2 3\n",
    "sequences": b"1 1 2 3 4 5\n2 4 5\n3 5 6 7\n",
    "sessions": b"7 2\n3 4 5\n7 8 9\n",
}


@pytest.mark.parametrize("form", CASES)
@pytest.mark.parametrize("wrap", ["plain", "gzip", "bom", "crlf", "no last newline"])
def test_every_format_is_found_from_its_content(tmp_path: Path, form: str, wrap: str) -> None:
    content = CASES[form]
    if wrap == "bom":
        content = b"\xef\xbb\xbf" + content
    if wrap == "crlf":
        content = content.replace(b"\n", b"\r\n")
    if wrap == "no last newline":
        content = content.rstrip()
    path = tmp_path / "misleading.parquet"
    path.write_bytes(gzip.compress(content, mtime=0) if wrap == "gzip" else content)
    assert open_source(path).form == form


def test_parquet_is_found_and_has_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    pl.DataFrame({"user": [1], "item": ["a"]}).write_parquet(path)
    assert open_source(path).form == "parquet"
    assert open_source(path).columns == ("user", "item")


def open_text(tmp_path: Path, text: str, **options: Any) -> Source:
    path = tmp_path / "log"
    path.write_text(text, encoding="utf-8")
    return open_source(path, **options)


@pytest.mark.parametrize(
    ("text", "form", "separator", "columns"),
    [
        ("user;item\n1;2\n", "csv", ";", ("user", "item")),
        ("uid|movieId|x\n1|2|3\n", "csv", "|", ("uid", "movieId", "x")),
        ("user item\n1 2\n", "csv", " ", ("user", "item")),
        ('"user id","item id"\n1,2\n', "csv", ",", ("user id", "item id")),
        ("a,b\n1,2\n", "csv", ",", ("a", "b")),
        ("a\tb\tc\n1\t2\t3\n", "tsv", "\t", ("a", "b", "c")),
        ("1::2::3\n4::5::6\n", "csv", "::", ("1", "2", "3")),
    ],
)
def test_tables(tmp_path: Path, text: str, form: str, separator: str, columns: tuple[str, ...]) -> None:
    source = open_text(tmp_path, text)
    assert isinstance(source, Delimited)
    assert (source.form, source.separator, source.columns, source.header) == (form, separator, columns, True)


def test_named_columns_find_the_separator(tmp_path: Path) -> None:
    source = open_text(tmp_path, "wer was;dings,bums\n1 1;2,2\n", wanted=("wer was", None))
    assert source.columns == ("wer was", "dings,bums")


def test_positions_mean_that_there_is_no_header(tmp_path: Path) -> None:
    source = open_text(tmp_path, "196\t242\t3\t881250949\n", wanted=("1", "2", "4"))
    assert isinstance(source, Delimited)
    assert (source.header, source.columns) == (False, ("1", "2", "3", "4"))


def test_quotes_in_tsv_count_only_if_they_wrap_fields(tmp_path: Path) -> None:
    for text, quoted in (('item\ttitle\n1\t12" record\n', False), ('user\titem\n1\t"a b"\n', True)):
        source = open_text(tmp_path, text)
        assert isinstance(source, Delimited)
        assert source.quoted == quoted


def test_words_are_explained_and_an_override_is_not(tmp_path: Path) -> None:
    text = "1 1 2\n2 4 5 6\n"
    assert "if it is an item, import with the format 'sessions'" in open_text(tmp_path, text).notes({})[0]
    assert open_text(tmp_path, text, form="sessions").notes({}) == ()


def test_a_line_with_a_single_word_makes_sessions(tmp_path: Path) -> None:
    assert open_text(tmp_path, "1 2 3\n4\n5 6\n").form == "sessions"


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        (b"", None, r"expected an interaction log, got the empty file .*log"),
        (b" \n\r\n", None, r"expected an interaction log, got the empty file"),
        (b"\xef\xbb\xbf", None, r"expected an interaction log, got the empty file"),
        (
            b"PK\x03\x04\0\0",
            None,
            r"expected a whole zip file, got a damaged one after line 0 of .*; download or pack it again",
        ),
        (
            b"a\0b\0\0c\n",
            None,
            r"expected text or a Parquet or Arrow file, got binary data in .*; unpack or convert it",
        ),
        (b"a b\n", "parquet", r"expected a Parquet file, got text in .*log; leave the format to be found"),
        (b"PAR1", "csv", r"expected the format 'csv', got a Parquet file at .*; leave the format to be found"),
        (b"PAR1....", None, r"expected a whole Parquet file, got one cut in the middle .* at .*log; copy it again"),
        (
            gzip.compress(b"PAR1", mtime=0),
            None,
            r"expected a plain Parquet file, got a gzip-compressed one at .*; unpack it first",
        ),
        (b'[{"user": 1}]', None, r"expected a log of events, got a JSON array in .*; write one object a line"),
        (b"a b\n", "inter", r"expected a header such as 'user_id:token<tab>item_id:token', got 'a b' in"),
        (
            gzip.compress(b"a b\n" * 9, mtime=0)[:-8],
            None,
            r"expected a whole gzip file, got one cut in the middle after line 9 of",
        ),
        (b"\x1f\x8bnonsense", None, r"expected a whole gzip file, got a damaged one after line 0 of"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, content: bytes, format: str | None, message: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_source(path, format)


def test_missing_files_and_directories(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a log, got no file at .*nowhere; check the path"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"expected a log, got a directory without files at .*; check the path$"):
        open_source(tmp_path)
    for name in "gfedcba":
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"expected an interaction log, got empty files only in"):
        open_source(tmp_path)


def test_a_form_that_no_source_reads(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"expected a log format, got 'cvs'; did you mean 'csv'\? known: arrow, csv, delta, files, frames, iceberg",
    ):
        open_text(tmp_path, "a b\n", form="cvs")


def test_the_surest_source_reads_a_log_and_a_new_one_is_asked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Folder(Source):
        """A folder of CSV files, read one after the other."""

        def sure(self) -> int:
            return 100 if self.log.path.is_dir() else 0

        def open(self) -> None:
            self.parts = [open_source(path) for path in sorted(self.log.path.iterdir())]
            self.columns = self.parts[0].columns

        def frames(self, *args: Any, **options: Any) -> Iterator[pl.DataFrame]:
            for part in self.parts:
                yield from part.frames(*args, **options)

    sources.discover()
    monkeypatch.setattr(sources, "_entries", dict(vars(sources)["_entries"]))
    sources.register("folder")(Folder)
    for number, events in enumerate(("a,x\nb,x\n", "a,y\na,z\n")):
        (tmp_path / f"{number}.csv").write_text("user,item\n" + events)
    source = open_source(tmp_path)
    frame = pl.concat(source.frames({"user": "user", "item": "item"}))
    assert (source.form, source.sha256()) == ("folder", "")
    assert frame.select("user", "item").rows() == [("a", "x"), ("b", "x"), ("a", "y"), ("a", "z")]
    assert open_source(tmp_path / "0.csv").form == "csv"
