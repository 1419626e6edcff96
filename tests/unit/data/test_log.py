"""Every form of log, plain or wrapped, must give the same events; every cut or damaged one must be refused by place."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import DataError
from leanrec.data import blocks as module
from leanrec.data.blocks import blocks, last_line_end
from leanrec.data.sources import open_source
from leanrec.data.sources.parquet import Parquet

EVENTS = [("ann", "x", 3), ("bob", "y", 1), ("ann", "y", 2), ("bob", "x", 5)]
TABLE = pl.DataFrame(EVENTS, schema=["user", "item", "time"], orient="row")
TEXTS = {
    "csv": TABLE.write_csv(),
    "tsv": TABLE.write_csv(separator="\t"),
    "inter": TABLE.write_csv(separator="\t").replace("user\titem\ttime", "user:token\titem:token\ttime:float"),
    "jsonl": TABLE.write_ndjson(),
    "pairs": "".join(f"{user} {item}\n" for user, item, _ in EVENTS),
    "sequences": "ann x y\nbob y x\n",
    "sessions": "x y\ny x\n",
}


def read(path: Path, format: str | None = None, **columns: str) -> pl.DataFrame:
    source = open_source(path, format, tuple(columns.values()))
    columns = columns or {name: name for name in ("user", "item", "time") if name in source.columns}
    return pl.concat(source.frames(columns))


def put(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "log"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("wrap", ["plain", "gzip", "two gzips", "bom", "crlf", "no last newline", "blank end"])
@pytest.mark.parametrize("block", [1, 8 << 20])
def test_every_form_in_every_wrapping(
    tmp_path: Path, form: str, wrap: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    plain = TEXTS[form].encode()
    content = {
        "gzip": gzip.compress(plain),
        "two gzips": gzip.compress(plain[:9]) + gzip.compress(plain[9:]),
        "bom": b"\xef\xbb\xbf" + plain,
        "crlf": plain.replace(b"\n", b"\r\n"),
        "no last newline": plain.rstrip(),
        "blank end": plain + b"\n\n",
    }.get(wrap, plain)
    frame = read(put(tmp_path, content), form)
    if form in ("sequences", "sessions"):
        names = {"ann": "1", "bob": "2"} if form == "sessions" else {}
        expected = [(names.get(user, user), item) for user, item, _ in sorted(EVENTS, key=lambda event: event[0])]
        assert frame.select("user", "item").rows() == expected
        assert frame["row"].to_list() == [1, 1, 2, 2]
        return
    assert frame.select("user", "item").rows() == [event[:2] for event in EVENTS]
    assert frame["row"].to_list() == [1, 2, 3, 4]
    if form != "pairs":
        assert frame["time"].cast(pl.Int64).to_list() == [event[2] for event in EVENTS]


def test_parquet_keeps_its_types_and_counts_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parquet, "rows", 3)
    path = tmp_path / "log"
    pl.DataFrame({"user": range(10), "item": ["a"] * 10, "x": [1.0] * 10}).write_parquet(path, row_group_size=4)
    calls: list[tuple[int, int]] = []
    frame = pl.concat(open_source(path).frames({"user": "user", "item": "item"}, lambda *call: calls.append(call)))
    assert frame["user"].to_list() == list(range(10))
    assert frame["row"].to_list() == list(range(1, 11))
    assert frame["user"].dtype == pl.Int64
    assert calls[-1] == (10, 10)


IDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0") | st.sampled_from("\",;'\t 🛒é"),
    min_size=1,
    max_size=6,
).filter(str.strip)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=12), st.sampled_from([",", "\t", ";"]), st.integers(1, 40))
def test_any_id_survives_a_table(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], separator: str, block: int
) -> None:
    path = tmp_path_factory.mktemp("t") / "log"
    pl.DataFrame(rows, schema=["user", "item"], orient="row").write_csv(path, separator=separator, quote_style="always")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        assert read(path).select("user", "item").rows() == rows


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=12))
def test_any_id_survives_json_lines(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("j") / "log"
    pl.DataFrame(rows, schema=["user", "item"], orient="row").write_ndjson(path)
    assert read(path).select("user", "item").rows() == rows


def test_line_ends_inside_quotes_belong_to_the_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 4)
    text = 'user,text,item\na,"one\ntwo ""quoted""\n",x\nb,"\n",y\n'
    frame = read(put(tmp_path, text))
    assert frame.rows() == [("a", "x", 1), ("b", "y", 2)]


@given(st.text(st.sampled_from('a"\n'), max_size=30), st.booleans())
def test_last_line_end_is_outside_quotes(text: str, quoted: bool) -> None:
    ends = [at + 1 for at, c in enumerate(text) if c == "\n" and not (quoted and text.count('"', 0, at) % 2)]
    assert last_line_end(text.encode(), quoted) == (ends[-1] if ends else 0)


@given(st.binary(min_size=1, max_size=200), st.integers(1, 50))
def test_blocks_are_the_file(tmp_path_factory: pytest.TempPathFactory, content: bytes, size: int) -> None:
    path = tmp_path_factory.mktemp("b") / "log"
    path.write_bytes(b"x" + content)
    calls: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", size)
        parts = list(blocks(path, progress=lambda *call: calls.append(call)))
    assert b"".join(parts) == b"x" + content
    assert all(part.endswith(b"\n") for part in parts[:-1])
    assert calls[-1] == (len(content) + 1, len(content) + 1)


def test_columns_by_position_without_a_header(tmp_path: Path) -> None:
    frame = read(put(tmp_path, "196\t242\t3\t881250949\n186\t302\t3\t891717742\n"), user="1", item="2", time="4")
    assert frame.rows() == [("196", "242", "881250949", 1), ("186", "302", "891717742", 2)]


def test_one_column_may_play_two_roles(tmp_path: Path) -> None:
    path = put(tmp_path, "user,item\na,b\n")
    frame = pl.concat(open_source(path).frames({"item": "item", "title": "item"}))
    assert frame.rows() == [("b", "b", 1)]


def test_numbers_in_json_are_keys_like_their_text(tmp_path: Path) -> None:
    frame = read(put(tmp_path, '{"user": 1, "item": "1"}\n\n{"user": 12345678901234567890, "item": 2.5}\n'))
    assert frame.rows() == [("1", "1", 1), ("12345678901234567890", "2.5", 3)]


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        (
            "user,item,time\na,x,1\nb,y\n",
            None,
            r"expected 3 fields, got 2 in the last row, 2, of .*log; was the file cut",
        ),
        (
            "user,item,rating\na,x,1\nb,y,1,1\nc,z,1\n",
            None,
            r"expected 3 fields, got 4 in row 2 of .*log; quote fields that",
        ),
        (
            'user,item\na,x\nb,"y\nc,z\n',
            None,
            r"expected whole quoted fields, got a quote that is not closed from row 2 of",
        ),
        (
            'user,item\na,x\nb,12" y\nc,z\n',
            None,
            r"expected csv, got text that cannot be parsed before row 4 of .*log: ",
        ),
        (b"user,item\na,x\nb,\xff\xfe\n", None, r"expected UTF-8, got byte 0xff in row 2 of .*log; convert the file"),
        (b"a x\nb \xff\xfe\nc z\n", "pairs", r"expected UTF-8, got byte 0xff in line 2 of .*log"),
        ("a x\nb y\nc\n", "pairs", r"expected 'user item', got one word in line 3 of .*log; was the file cut"),
        ("a x\n\nb y z\n", "pairs", r"expected 'user item', got 3 words in line 3 of"),
        (
            "a x\nb\n",
            "sequences",
            r"expected 'user item item \.\.\.', got one word in line 2 of .*log; was the file cut",
        ),
        (
            '{"user": 1, "item": 2}\n{"user": 1, "it',
            None,
            r"expected a JSON object, got: Input data was truncated in line 2",
        ),
        (
            '{"user": 1, "item": 2}\n[1]\n',
            None,
            r"expected a JSON object, got: Expected `object`, got `array` in line 2 of",
        ),
        (
            '{"user": 1, "item": 2}\n{"user": {}}\n',
            None,
            r"expected text, a number or null, got an object in line 2, field 'user' of .*log; name another field",
        ),
        ('{"user": 1, "item": 2}\n{"user": 1, "item": NaN}\n', None, r"got: JSON is malformed: .* in line 2 of"),
    ],
)
def test_damage_is_named_by_place(tmp_path: Path, content: str | bytes, format: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(put(tmp_path, content), format)


def test_damage_far_behind_has_the_right_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 50)
    lines = [f"u{number},i\n" for number in range(1, 101)]
    lines[76] = "u77,i,extra\n"
    with pytest.raises(DataError, match=r"expected 2 fields, got 3 in row 77 of"):
        read(put(tmp_path, "user,item\n" + "".join(lines)))


def test_a_gzip_cut_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanrec.data.source.SAMPLE", 50)
    packed = gzip.compress("".join(f"{number} {number * 7919 % 104729}\n" for number in range(300_000)).encode())
    with pytest.raises(
        DataError, match=r"got one cut in the middle after line [1-9]\d+ of .*log; download or pack it again"
    ):
        read(put(tmp_path, packed[: len(packed) // 2]), "pairs")


def test_a_parquet_cut_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "log"
    TABLE.write_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"expected a whole Parquet file, got one cut in the middle"):
        read(path)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_reader_that_panics(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def panics(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("assertion failed")

    path = tmp_path / "log"
    (TABLE.write_parquet if kind == "parquet" else TABLE.write_ipc)(path)
    monkeypatch.setattr("polars.LazyFrame.collect_batches", panics)
    with pytest.raises(
        DataError, match=r"expected a whole \w+ file, got: assertion failed after row 0 of .*log; was the"
    ):
        read(path)


def test_a_parquet_damaged_inside(tmp_path: Path) -> None:
    path = tmp_path / "log"
    TABLE.write_parquet(path)
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"expected a whole Parquet file, got: .* after row 0 of .*log; was the file cut"
    ):
        read(path)


def test_a_quote_that_never_closes_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 20)
    monkeypatch.setattr(module, "LONGEST_LINE", 100)
    monkeypatch.setattr("leanrec.data.packed.READ_AT_ONCE", 16)
    text = 'user,item\na,x\nb,"y\n' + "c,z\n" * 100
    with pytest.raises(
        DataError, match=r"expected line ends, got none in 1\d\d bytes after line 2 of .*log; is a quote not"
    ):
        read(put(tmp_path, text))


def test_an_unreadable_file(tmp_path: Path) -> None:
    arguments: Any = tmp_path / "gone"
    with pytest.raises(DataError, match=r"expected a readable file, got 'No such file or directory' for .*gone"):
        list(blocks(arguments))
